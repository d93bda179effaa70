/** Nearest images as one HTML page: a query a row, its neighbours beside it with their cosines. It reads no image. */
import { relative } from "node:path";
import { pathToFileURL } from "node:url";
import type { Neighbour } from "./search.ts";

/** A query and what was found. */
export interface GalleryRow {
  readonly query: string;
  readonly found: readonly Neighbour[];
}

const escaped = (text: string) =>
  text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");

function figure(file: string, caption: string): string {
  const name = escaped(relative(".", file));
  return `<figure><img src="${escaped(pathToFileURL(file).href)}" alt="${name}" title="${name}" loading="lazy">` +
    `<figcaption>${escaped(caption)}</figcaption></figure>`;
}

/** The page. Images are linked by absolute paths, none is copied. */
export function galleryOf(rows: readonly GalleryRow[], { files, title }: {
  readonly files: readonly string[];
  readonly title: string;
}): string {
  const body = rows.map(({ query, found }) =>
    `<section>${figure(query, "query")}${
      found.map(({ index, similarity }) => figure(files[index], similarity.toFixed(3))).join("")
    }</section>`
  ).join("\n");
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>${escaped(title)}</title>
<style>
body { font: 14px system-ui, sans-serif; margin: 2rem; background: #fff; color: #222; }
section { display: flex; gap: .75rem; padding: .75rem 0; border-bottom: 1px solid #ddd; overflow-x: auto; }
figure { margin: 0; text-align: center; }
figure:first-child { padding-right: .75rem; border-right: 2px solid #888; }
img { height: 96px; width: auto; image-rendering: auto; }
figcaption { color: #666; font-variant-numeric: tabular-nums; }
</style>
<h1>${escaped(title)}</h1>
${body}
</html>
`;
}
