/**
 * 2-D convolution: its shape, the kernels of its three passes, and their references, gathered from the files that hold
 * one pass each.
 */
export { type Conv2dOutput, conv2dOutput, type Conv2dShape } from "./conv2d_shape.ts";
export { conv2dForward, conv2dForwardReference } from "./conv2d_forward.ts";
export { conv2dInputGradient, conv2dInputGradientReference } from "./conv2d_input_gradient.ts";
export {
  conv2dWeightGradient,
  conv2dWeightGradientReference,
  type WeightGradientKernels,
} from "./conv2d_weight_gradient.ts";
