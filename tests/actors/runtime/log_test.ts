import { assertEquals } from "@std/assert";
import { isLogLevel, logLine, LogTail, oneLine } from "../../../actors/runtime/log.ts";

Deno.test("a log line cannot start a second line or move a cursor", () => {
  assertEquals(
    oneLine("a\nerror b\r\t\u001b[2J\u0000\u009b\u2028π"),
    "a\\nerror b\\r\\t\\u001b[2J\\u0000\\u009b\\u2028π",
  );
  assertEquals(logLine("warn", "x\ny"), "warn  x\\ny");
});

Deno.test("LogTail keeps the last lines, cut to length", () => {
  const tail = new LogTail(2, 3);
  for (const line of ["one", "two", "three"]) tail.add(line);
  assertEquals(tail.lines(), ["two", "thr"]);
});

Deno.test("isLogLevel() knows the four levels", () => {
  assertEquals(["debug", "info", "warn", "error", "fatal", ""].map(isLogLevel), [true, true, true, true, false, false]);
});
