/**
 * Vision transformers as transformers has them (`modeling_vit.py`): its names, and the projections of queries, keys and
 * values, which it keeps apart and torchvision in one. Elements are not changed.
 */
import type { SafeTensor } from "../checkpoint/safetensors.ts";

/** Its names outside of blocks, by torchvision's. */
export const hfOutside: Readonly<Record<string, string>> = {
  "class_token": "vit.embeddings.cls_token",
  "conv_proj.weight": "vit.embeddings.patch_embeddings.projection.weight",
  "conv_proj.bias": "vit.embeddings.patch_embeddings.projection.bias",
  "encoder.pos_embedding": "vit.embeddings.position_embeddings",
  "encoder.ln.weight": "vit.layernorm.weight",
  "encoder.ln.bias": "vit.layernorm.bias",
};

const joint = "attention.attention.in_proj";

/** Its names inside of a block, by torchvision's; the joint projections go by a name of ours. */
export const hfInside: Readonly<Record<string, string>> = Object.fromEntries(
  ([
    ["ln_1.", "layernorm_before."],
    ["self_attention.in_proj_", `${joint}.`],
    ["self_attention.out_proj.", "attention.output.dense."],
    ["ln_2.", "layernorm_after."],
    ["mlp.0.", "intermediate.dense."],
    ["mlp.3.", "output.dense."],
  ] as const).flatMap(([ours, theirs]) => ["weight", "bias"].map((part) => [`${ours}${part}`, `${theirs}${part}`])),
);

/** What stands before a block's names. */
export const hfBlock = (index: string | number): string => `vit.encoder.layer.${index}.`;

const parts = ["query", "key", "value"] as const;
const partPattern = /^(vit\.encoder\.layer\.\d{1,5}\.attention\.attention)\.query\.(weight|bias)$/;
const jointPattern = /^(vit\.encoder\.layer\.\d{1,5}\.attention\.attention)\.in_proj\.(weight|bias)$/;

/** Queries, keys and values of a block as one tensor each, where all three are there and alike; all else as it is. */
export function joinAttention(tensors: ReadonlyMap<string, SafeTensor>): ReadonlyMap<string, SafeTensor> {
  const joined = new Map(tensors);
  for (const name of tensors.keys()) {
    const [, place, kind] = partPattern.exec(name) ?? [];
    if (place === undefined) continue;
    const names = parts.map((part) => `${place}.${part}.${kind}`);
    const three = names.flatMap((part) => tensors.get(part) ?? []);
    const [first] = three;
    const alike = three.every(({ dtype, shape }) => dtype === first.dtype && shape.join() === first.shape.join());
    if (three.length < 3 || !alike) continue;
    const bytes = new Uint8Array(three.reduce((sum, tensor) => sum + tensor.bytes.byteLength, 0));
    three.reduce((at, tensor) => (bytes.set(tensor.bytes, at), at + tensor.bytes.byteLength), 0);
    for (const part of names) joined.delete(part);
    const [rows, ...rest] = first.shape;
    joined.set(`${place}.in_proj.${kind}`, { dtype: first.dtype, shape: [3 * rows, ...rest], bytes });
  }
  return joined;
}

/** The reverse of {@linkcode joinAttention}, in transformers' order. */
export function splitAttention(tensors: ReadonlyMap<string, SafeTensor>): Map<string, SafeTensor> {
  const split = new Map<string, SafeTensor>();
  for (const [name, tensor] of tensors) {
    const [, place, kind] = jointPattern.exec(name) ?? [];
    if (place === undefined) {
      split.set(name, tensor);
      continue;
    }
    const [rows, ...rest] = tensor.shape, length = tensor.bytes.byteLength / 3;
    for (const [i, part] of parts.entries()) {
      split.set(`${place}.${part}.${kind}`, {
        dtype: tensor.dtype,
        shape: [rows / 3, ...rest],
        bytes: tensor.bytes.slice(i * length, (i + 1) * length),
      });
    }
  }
  return split;
}
