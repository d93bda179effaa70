/** Writes docs/config.md anew: `deno run --allow-read --allow-write=docs tools/write_config_reference.ts`. */
import { configReference } from "../config.ts";

await Deno.writeTextFile(new URL("../docs/config.md", import.meta.url), configReference());
