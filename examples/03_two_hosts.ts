/**
 * A cluster of two hosts. The second one is a process on this machine here; on another machine it is the very same
 * command, with the address and the token that the run tells:
 *
 *     deno run -A examples/03_two_hosts.ts [IMAGES] [RUNS] [PRESET] [STEPS]
 *
 * The weights are the same, bit for bit, as on one host.
 */
import { pretrain } from "../mod.ts";

const [images, runs = "runs", preset = "quickstart", steps = "50"] = Deno.args;
let second: Deno.ChildProcess | undefined;

const { outcome, digest } = await pretrain({
  preset,
  steps: Number(steps),
  data: { folder: images },
  run: { folder: runs },
  cluster: { trainers: 2 },
}, {
  hosts: 2,
  onListening({ url, token }) {
    const main = new URL("../main.ts", import.meta.url).pathname;
    second = new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", main, "host", "--join", url],
      // A secret on the command line could be read by every user of the machine.
      env: { SEER_TOKEN: token },
    }).spawn();
  },
  onEvent(event) {
    if (event.kind === "starting") console.log(event.actors.map(({ id, host }) => `${id} on ${host}`).join("\n"));
  },
});
await second?.status;
console.log(`${outcome} on two hosts, SHA-256 of the weights: ${digest}`);
