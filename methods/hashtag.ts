/**
 * Hashtag prediction, the weakly supervised comparison of the SEER paper (ResNeXt-101 32x8d): a softmax over all tags, as
 * multi-label losses by tag do worse. Network and loss are `supervised.ts`'s; here is which of an image's tags are its
 * targets in a step. It knows no image and no random numbers.
 */

/** How tags become targets. */
export interface TargetTagsOptions {
  /**
   * `sampled`: one tag, drawn anew in each step (Joulin et al., "Learning visual features from large weakly supervised
   * data", ECCV 2016). `shared`: all tags in equal shares (Mahajan et al., "Exploring the limits of weakly supervised
   * pretraining", ECCV 2018, section 2.3).
   */
  readonly targets: "sampled" | "shared";
  /** A whole number from 0 to count − 1, a function of the step and the image. */
  draw(count: number): number;
}

/**
 * The tags that an image is to be told by in a step.
 *
 * @throws {RangeError} when it has none.
 */
export function targetTags(tags: readonly number[], { targets, draw }: TargetTagsOptions): readonly number[] {
  if (tags.length === 0) throw new RangeError("Cannot choose a target: the image must have a tag, it has none");
  return targets === "shared" ? tags : [tags[draw(tags.length)]];
}
