import { assertRows } from "./arrays.ts";
import { compareSinkhorn } from "./sinkhorn.ts";

Deno.test("assignments match Sinkhorn-Knopp in PyTorch, and any number of replicas gives the same bits", async () => {
  assertRows(await compareSinkhorn(new URL("../golden", import.meta.url).pathname));
});
