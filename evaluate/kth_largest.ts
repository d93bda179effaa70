/** The k-th largest of some numbers, in linear time. It knows nothing else. */

/**
 * The k-th largest of `scores` (k from 1), by quickselect on a copy.
 */
export function kthLargest(scores: Float32Array, k: number): number {
  const values = Float32Array.from(scores);
  let low = 0, high = values.length - 1;
  const target = k - 1;
  while (low < high) {
    const pivot = values[(low + high) >> 1];
    let left = low, right = high;
    while (left <= right) {
      while (values[left] > pivot) left++;
      while (values[right] < pivot) right--;
      if (left > right) break;
      const kept = values[left];
      values[left++] = values[right];
      values[right--] = kept;
    }
    if (target <= right) high = right;
    else if (target >= left) low = left;
    else break;
  }
  return values[target];
}
