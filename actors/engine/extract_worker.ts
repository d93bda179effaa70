/** The entry of the extractor's GPU worker: its engine behind the link to the extractor's main thread. */
import { openDevice } from "../../device/open.ts";
import { workerLink, workerSelf } from "../../wire/worker_link.ts";
import { Extractor } from "./extractor.ts";

const link = workerLink(workerSelf(), { peer: "extractor" });
const extractor = new Extractor({ send: (message) => link.send(message), openDevice });
link.onMessage = (message) => extractor.receive(message);
