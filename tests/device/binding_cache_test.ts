import { assertEquals } from "@std/assert";
import { BindingCache } from "../../device/binding_cache.ts";

Deno.test("BindingCache drops the entry that was used longest ago", () => {
  const cache = new BindingCache<number>(2);
  cache.set("a", { value: 1, slots: [] });
  cache.set("b", { value: 2, slots: [] });
  assertEquals(cache.get("a"), 1);
  cache.set("c", { value: 3, slots: [] });
  assertEquals([cache.get("a"), cache.get("b"), cache.get("c"), cache.size], [1, undefined, 3, 2]);
});

Deno.test("BindingCache forgets every entry of a slot that is gone, and only those", () => {
  const cache = new BindingCache<number>(10);
  cache.set("a", { value: 1, slots: [{ id: 1 }, { id: 2 }] });
  cache.set("b", { value: 2, slots: [{ id: 2 }] });
  cache.set("c", { value: 3, slots: [{ id: 3 }] });
  cache.forget({ id: 2 });
  assertEquals([cache.get("a"), cache.get("b"), cache.get("c"), cache.size], [undefined, undefined, 3, 1]);
});
