/** A vision transformer as ONNX operators, by torchvision's names: images of the size that it has positions for. */
import { vitNumbers, type VitSpec } from "../nn/vit_spec.ts";
import type { Graph } from "./onnx_graph.ts";

const EPSILON = 1e-6;

/** Adds the network to the graph; the name of the class token's features `[N, C]`. */
export function buildVit(spec: VitSpec, graph: Graph): string {
  const { width, depth, grid } = vitNumbers(spec), { patch } = spec;
  const convolved = graph.add("Conv", ["images", "conv_proj.weight", "conv_proj.bias"], {
    name: "conv_proj/output",
    attributes: { kernel_shape: [patch, patch], strides: [patch, patch] },
  });
  const rows = graph.add("Reshape", [convolved, graph.integers("patches/shape", [0, width, grid * grid])], {
    name: "patches/rows",
  });
  const patches = graph.add("Transpose", [rows], { name: "patches", attributes: { perm: [0, 2, 1] } });
  // A class token for each image: zeros of the right shape, plus the parameter.
  const first = graph.add("Gather", [patches, graph.integers("class_token/place", [0])], {
    name: "class_token/first",
    attributes: { axis: 1 },
  });
  const none = graph.add("Sub", [first, first], { name: "class_token/zeros" });
  const token = graph.add("Add", [none, "class_token"], { name: "class_token/rows" });
  const joined = graph.add("Concat", [token, patches], { name: "tokens", attributes: { axis: 1 } });
  let current = graph.add("Add", [joined, "encoder.pos_embedding"], { name: "tokens/placed" });
  for (let i = 0; i < depth; i++) {
    current = block(graph, { input: current, name: `encoder.layers.encoder_layer_${i}`, spec });
  }
  const own = graph.add("Gather", [current, graph.integers("features/place", [0])], {
    name: "features/token",
    attributes: { axis: 1 },
  });
  return layerNorm(graph, own, "encoder.ln");
}

function layerNorm(graph: Graph, input: string, name: string): string {
  return graph.add("LayerNormalization", [input, `${name}.weight`, `${name}.bias`], {
    name: `${name}/output`,
    attributes: { axis: 2, epsilon: EPSILON },
    float: ["epsilon"],
  });
}

/** `x · Wᵀ + b` over the last dimension. */
function linear(graph: Graph, input: string, [weight, bias]: readonly [string, string]): string {
  const turned = graph.add("Transpose", [weight], { name: `${weight}/turned`, attributes: { perm: [1, 0] } });
  const product = graph.add("MatMul", [input, turned], { name: `${weight}/product` });
  return graph.add("Add", [product, bias], { name: `${weight}/output` });
}

function block(graph: Graph, { input, name, spec }: { input: string; name: string; spec: VitSpec }): string {
  const layer = (from: string, part: string) => linear(graph, from, [`${name}.${part}.weight`, `${name}.${part}.bias`]);
  const mixed = layer(
    attention(graph, { input: layerNorm(graph, input, `${name}.ln_1`), name, spec }),
    "self_attention.out_proj",
  );
  const middle = graph.add("Add", [input, mixed], { name: `${name}/middle` });
  const wide = layer(layerNorm(graph, middle, `${name}.ln_2`), "mlp.0");
  const narrow = layer(gelu(graph, wide, `${name}/gelu`), "mlp.3");
  return graph.add("Add", [middle, narrow], { name: `${name}/output` });
}

function attention(graph: Graph, { input, name, spec }: { input: string; name: string; spec: VitSpec }): string {
  const { width } = vitNumbers(spec), { heads } = spec, features = width / heads;
  const at = `${name}.self_attention`;
  const packed = linear(graph, input, [`${at}.in_proj_weight`, `${at}.in_proj_bias`]);
  const split = graph.add("Reshape", [packed, graph.integers(`${at}/shape`, [0, 0, 3, heads, features])], {
    name: `${at}/split`,
  });
  // [3, N, H, T, D], then one of the three.
  const turned = graph.add("Transpose", [split], { name: `${at}/turned`, attributes: { perm: [2, 0, 3, 1, 4] } });
  const [queries, keys, values] = ["queries", "keys", "values"].map((part, place) => {
    const taken = graph.add("Gather", [turned, graph.integers(`${at}/${part}/place`, [place])], {
      name: `${at}/${part}/taken`,
      attributes: { axis: 0 },
    });
    return graph.add("Squeeze", [taken, graph.integers(`${at}/${part}/axis`, [0])], { name: `${at}/${part}` });
  });
  const across = graph.add("Transpose", [keys], { name: `${at}/across`, attributes: { perm: [0, 1, 3, 2] } });
  const products = graph.add("MatMul", [queries, across], { name: `${at}/products` });
  const scores = graph.add("Mul", [products, graph.number(`${at}/scale`, 1 / Math.sqrt(features))], {
    name: `${at}/scores`,
  });
  const shares = graph.add("Softmax", [scores], { name: `${at}/shares`, attributes: { axis: 3 } });
  const averaged = graph.add("MatMul", [shares, values], { name: `${at}/averaged` });
  const back = graph.add("Transpose", [averaged], { name: `${at}/back`, attributes: { perm: [0, 2, 1, 3] } });
  return graph.add("Reshape", [back, graph.integers(`${at}/width`, [0, 0, width])], { name: `${at}/output` });
}

/** `x / 2 · (1 + erf(x / √2))`. */
function gelu(graph: Graph, input: string, name: string): string {
  const scaled = graph.add("Mul", [input, graph.number(`${name}/root`, Math.SQRT1_2)], { name: `${name}/scaled` });
  const erf = graph.add("Erf", [scaled], { name: `${name}/erf` });
  const raised = graph.add("Add", [erf, graph.number(`${name}/one`, 1)], { name: `${name}/raised` });
  const half = graph.add("Mul", [input, graph.number(`${name}/half_of`, 0.5)], { name: `${name}/half` });
  return graph.add("Mul", [half, raised], { name: `${name}/output` });
}
