/**
 * An actor's pulse: a thread that does nothing but send a message every so often over a connection of its own, so that it
 * is heard however busy the actor's main thread is, and falls silent when its process is frozen or cut off. It says nothing
 * of whether the main thread works; heartbeats do.
 */
import { encode } from "../../wire/codec.ts";
import { frameBytesMax, framesOf, greetingFrame } from "../../wire/frames.ts";
import type { Identity } from "../../wire/identity.ts";
import { identityOf } from "../../wire/socket_link.ts";
import type { Policy } from "../../wire/admission.ts";
import type { Tls } from "../../wire/tls.ts";

/** Time between two pulses. */
export const pulseMs = 250;

/** Who beats, and for whom. */
export interface PulseOptions {
  readonly id: string;
  /** Actor that listens at `url`. */
  readonly to: string;
  readonly url: string;
  readonly token: string | Identity;
  readonly tls?: Tls;
  readonly policy?: Policy;
}

/** The thread's program. It has no modules of its own: no permission to read is needed, and it starts in no time. */
const program = `
onmessage = ({ data: { url, authorization, greeting, pulse, everyMs, authority } }) => {
  const client = authority === undefined ? undefined : Deno.createHttpClient({ caCerts: [authority] });
  const socket = new WebSocket(url, { headers: { authorization }, client });
  let beating;
  const beat = () => socket.readyState === WebSocket.OPEN && socket.send(pulse);
  // The listener greets first.
  socket.onmessage = () => {
    socket.onmessage = null;
    socket.send(greeting);
    beat();
    beating = setInterval(beat, everyMs);
  };
  socket.onerror = (event) => event.preventDefault();
  socket.onclose = () => {
    clearInterval(beating);
    setTimeout(() => postMessage("again"), everyMs);
  };
};`;

/**
 * Starts the thread; what is returned ends it. A connection that breaks is made anew, with a proof that only this thread can
 * give; without one nobody hears the pulse, and nobody who never heard it misses it.
 */
export function startPulse({ id, to, url, token, tls, policy }: PulseOptions): () => void {
  const worker = new Worker(`data:text/javascript,${encodeURIComponent(program)}`, { type: "module", name: "pulse" });
  // What goes wrong there ends the pulse, not the actor.
  worker.addEventListener("error", (event) => event.preventDefault());
  const [pulse] = framesOf({ head: encode({ type: "pulse" }) }, frameBytesMax, { urgent: true });
  const connect = () =>
    worker.postMessage({
      url,
      authorization: identityOf({ id, token, policy }).header(to),
      greeting: greetingFrame(id, { pulse: true }),
      pulse,
      everyMs: pulseMs,
      authority: tls?.authority,
    });
  worker.onmessage = connect;
  connect();
  return () => worker.terminate();
}
