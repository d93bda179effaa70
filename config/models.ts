/** The names of the published networks that `model.name` may hold. Their stages are in `nn/`. */

/** Names of the published RegNetY networks, smallest first. */
export const modelNames: readonly string[] = [
  "regnety_200mf",
  "regnety_400mf",
  "regnety_800mf",
  "regnety_1.6gf",
  "regnety_3.2gf",
  "regnety_8gf",
  "regnety_16gf",
  "regnety_32gf",
  "regnety_64gf",
  "regnety_128gf",
  "regnety_256gf",
  "regnety_10b",
];

/** The name, if it is that of a published network. */
export function findModel(name: string): string | undefined {
  return modelNames.find((known) => known === name);
}
