/**
 * Features as plain rows of numbers, and the few changes that evaluations make to them. It knows no image, no label and
 * no device.
 */

/** Dense rows: row i is `data[i · columns … (i + 1) · columns)`. */
export interface Matrix {
  readonly data: Float32Array<ArrayBuffer>;
  readonly rows: number;
  readonly columns: number;
}

/**
 * Wraps `data` as a matrix.
 *
 * @throws RangeError when the numbers do not fill whole rows
 */
export function matrixFrom(data: Float32Array<ArrayBuffer>, columns: number): Matrix {
  if (!Number.isInteger(columns) || columns < 1 || data.length % columns !== 0) {
    throw new RangeError(`Cannot make a matrix: its numbers must fill whole rows of ${columns}, found ${data.length}`);
  }
  return { data, rows: data.length / columns, columns };
}

/** @throws RangeError when a number is not finite */
export function requireFinite({ data, columns }: Matrix): void {
  const at = data.findIndex((value) => !Number.isFinite(value));
  if (at < 0) return;
  throw new RangeError(
    `Cannot evaluate: features must be finite numbers, found ${data[at]} in row ${Math.floor(at / columns)}; ` +
      "the training has diverged, or the checkpoint is broken",
  );
}

/** The rows with these numbers, in this order. */
export function takeRows(matrix: Matrix, rows: readonly number[]): Matrix {
  const { columns } = matrix;
  const data = new Float32Array(rows.length * columns);
  rows.forEach((row, i) => data.set(matrix.data.subarray(row * columns, (row + 1) * columns), i * columns));
  return { data, rows: rows.length, columns };
}

/** Every row divided by its L2 norm; rows shorter than 1e-12 stay what they are over 1e-12. */
export function normalizeRows(matrix: Matrix): Matrix {
  const { rows, columns } = matrix;
  const data = new Float32Array(matrix.data.length);
  for (let row = 0; row < rows; row++) {
    let sum = 0;
    for (let at = row * columns; at < (row + 1) * columns; at++) sum += matrix.data[at] ** 2;
    const scale = 1 / Math.max(Math.sqrt(sum), 1e-12);
    for (let at = row * columns; at < (row + 1) * columns; at++) data[at] = matrix.data[at] * scale;
  }
  return { data, rows, columns };
}

/** What to take from each column and what to divide it by. */
export interface ColumnStatistics {
  readonly mean: Float64Array<ArrayBuffer>;
  /** Standard deviation over the rows (divided by their number). */
  readonly deviation: Float64Array<ArrayBuffer>;
}

/** Mean and standard deviation of each column, in double precision and two passes. */
export function columnStatistics(matrix: Matrix): ColumnStatistics {
  const { data, rows, columns } = matrix;
  const mean = new Float64Array(columns), deviation = new Float64Array(columns);
  for (let at = 0; at < data.length; at++) mean[at % columns] += data[at];
  for (let column = 0; column < columns; column++) mean[column] /= rows;
  for (let at = 0; at < data.length; at++) deviation[at % columns] += (data[at] - mean[at % columns]) ** 2;
  for (let column = 0; column < columns; column++) deviation[column] = Math.sqrt(deviation[column] / rows);
  return { mean, deviation };
}

/** Each column less its mean. */
export function centreColumns(matrix: Matrix, { mean }: Pick<ColumnStatistics, "mean">): Matrix {
  const { columns } = matrix;
  return { ...matrix, data: Float32Array.from(matrix.data, (value, at) => value - mean[at % columns]) };
}

/**
 * Each column less its mean, over its standard deviation. A column that is constant up to rounding (deviation under 1e-5
 * of its mean, or under 1e-12) becomes zero: dividing by rounding errors would make features of them.
 */
export function standardizeColumns(matrix: Matrix, { mean, deviation }: ColumnStatistics): Matrix {
  const { columns } = matrix;
  const scale = Float64Array.from(
    deviation,
    (value, column) => value <= Math.max(1e-12, 1e-5 * Math.abs(mean[column])) ? 0 : 1 / value,
  );
  const data = Float32Array.from(matrix.data, (value, at) => (value - mean[at % columns]) * scale[at % columns]);
  return { ...matrix, data };
}
