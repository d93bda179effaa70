/** The entry of the evaluator's GPU worker: a prober behind the link to the evaluator's main thread. */
import { openDevice } from "../../device/open.ts";
import { workerLink, workerSelf } from "../../wire/worker_link.ts";
import { Prober } from "./prober.ts";

const link = workerLink(workerSelf(), { peer: "evaluator" });
const prober = new Prober({ send: (message) => link.send(message), openDevice, now: () => performance.now() });
link.onMessage = (message) => prober.receive(message);
