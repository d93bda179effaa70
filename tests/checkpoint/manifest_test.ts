import { assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { CheckpointError } from "../../checkpoint/error.ts";
import { canonicalJson, type Manifest, manifestText, parseManifest, sha256Hex } from "../../checkpoint/manifest.ts";

const manifest: Manifest = {
  format: 1,
  runId: "run-1",
  step: 12,
  progress: { epoch: 1, cursor: [3, 4], schedule: { best: 1.5, worse: null } },
  configDigest: sha256Hex("config"),
  createdAt: "2026-01-01T00:00:00.000Z",
  files: {
    "model.safetensors": { sha256: sha256Hex("a"), byteLength: 1 },
    "optimizer.safetensors": { sha256: sha256Hex("b"), byteLength: 2 },
  },
};

Deno.test("parseManifest() gives back what manifestText() took", () => {
  assertEquals(parseManifest(manifestText(manifest)), manifest);
});

Deno.test("a changed value anywhere in the manifest is refused", () => {
  const text = manifestText(manifest);
  for (
    const [from, to] of [['"step": 12', '"step": 13'], ['"cursor"', '"cursos"'], ["1.5", "1.25"], ["run-1", "run-2"]]
  ) {
    assertThrows(() => parseManifest(text.replace(from, to)), CheckpointError, "its own digest");
  }
});

Deno.test("foreign, future and malformed manifests are refused with the reason", () => {
  const text = manifestText(manifest);
  const cases = [
    ["", "no JSON"],
    ["[]", "not of this program"],
    ["{}", "not of this program"],
    [text.replace('"format": 1', '"format": 2'), "format 2, this program reads 1"],
    [text.replace('"step": 12', '"step": -1'), 'malformed at "step"'],
    [text.replace('"runId"', '"name"'), 'malformed at "runId"'],
    [text.slice(0, -20), "no JSON"],
  ];
  for (const [broken, reason] of cases) assertThrows(() => parseManifest(broken), CheckpointError, reason);
});

Deno.test("canonicalJson() gives one text for equal values and the value back", () => {
  fc.assert(fc.property(fc.jsonValue(), (value) => {
    const reordered = JSON.parse(JSON.stringify(value));
    assertEquals(canonicalJson(reordered), canonicalJson(value));
    assertEquals(JSON.parse(canonicalJson(value)), reordered);
  }));
  assertEquals(canonicalJson({ b: 1, a: { d: 2, c: [3, null] } }), '{"a":{"c":[3,null],"d":2},"b":1}');
});
