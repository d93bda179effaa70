/**
 * Links over WebSockets. Proof of who connects travels in the upgrade's Authorization header, never in an address; a
 * listener answers 401 before upgrading, and refuses browsers (any Origin header). Off loopback it speaks TLS or not at
 * all. It knows no message by name.
 */
import { deadline } from "@std/async/deadline";
import { admission, type Policy } from "./admission.ts";
import { WireError } from "./error.ts";
import { type Greeting, greetingFrame, readGreeting } from "./frames.ts";
import { Gate } from "./gate.ts";
import { Authority, type Claims, Identity, renewalMs } from "./identity.ts";
import { errorText, type Link, type LinkLimits, linkLimits } from "./link.ts";
import { serve } from "./server.ts";
import { type EndOptions, SocketLink } from "./socket_end.ts";
import { listeningTls, requireSafeAddress, type Tls } from "./tls.ts";

/** Options of {@linkcode connectSocket}. */
export interface ConnectOptions extends LinkLimits {
  /** This side's actor id. */
  id: string;
  /** The run's secret, or what a process without it got in its place. */
  token: string | Identity;
  /** Actor that is meant to listen there. @default whoever does */
  peer?: string;
  tls?: Tls;
  /** Who may send what; absent lets every message in. */
  policy?: Policy;
  /** Limit for connection and greeting together. @default 10,000 */
  timeoutMs?: number;
  /** Time between two signs that the connections are in use. @default 15,000 */
  keepAliveMs?: number;
}

/** Options of {@linkcode listen}. */
export interface ListenOptions extends LinkLimits {
  /** This side's actor id. */
  id: string;
  /** The run's secret, or what a process without it got in its place. */
  token: string | Identity;
  tls?: Tls;
  /** Told why a request was refused; the client is not. */
  onRefused?: (reason: string) => void;
  /** Lowest start number of an actor that may come in. @default 0 */
  lowestOf?: (actor: string) => number;
  /** Who may send what; absent lets every message in. */
  policy?: Policy;
  /** Address to bind. @default "127.0.0.1" */
  hostname?: string;
  /** 0 takes any free port. @default 0 */
  port?: number;
  /** Limit for a client's greeting after the upgrade. @default 5,000 */
  greetingTimeoutMs?: number;
  /** Time between two renewals of a client's token, where this side has the run's secret. @default a third of its life */
  renewalMs?: number;
  /** Time between two signs that the connections are in use. @default 15,000 */
  keepAliveMs?: number;
}

/** An open listener. */
export interface Listener {
  /** `ws://host:port/` or `wss://host:port/`, to be given to {@linkcode connectSocket}. */
  readonly url: string;
  readonly port: number;
  /** Stops accepting and ends all links of this listener. */
  close(): Promise<void>;
}

/**
 * Connects to the listener at `url` and exchanges greetings.
 *
 * @throws {WireError} when nobody answers within the limit, the token is refused, or the other side is no actor.
 */
export async function connectSocket(url: string, options: ConnectOptions): Promise<Link> {
  return await openSocket(url, options, (socket, { id: peer, pulse, ticket }) => {
    socket.send(greetingFrame(options.id));
    const dial = () => dialBulk(url, { ...options, peer }, ticket);
    const pushes = new URL(url).protocol === "wss:";
    return new SocketLink(socket, { ...endOptions(options, { peer, pulse }), dial, pushes });
  });
}

/**
 * Accepts links at `hostname:port`; `onLink` gets each one after its greeting.
 *
 * @throws {WireError} when the address cannot be bound.
 */
export function listen(options: ListenOptions, onLink: (link: Link) => void): Listener {
  const hostname = (options.hostname ?? "127.0.0.1").replace(/^\[|\]$/g, "");
  const port = options.port ?? 0;
  const links = new Set<SocketLink>();
  /** Links that may still get a bulk connection, by the name that their clients know. */
  const tickets = new Map<string, SocketLink>();
  const name = hostname.includes(":") ? `[${hostname}]` : hostname;
  const certificate = listeningTls(hostname, options.tls);
  const authority = typeof options.token === "string" ? new Authority(options.token) : undefined;
  let gate: Gate | undefined;
  const handler = (request: Request): Response => {
    const refused = refusedRequest(request);
    if (refused !== undefined) {
      options.onRefused?.(refused.reason);
      return refused.response;
    }
    let claims: Claims;
    try {
      gate ??= gateOf(options, `@${name}:${server.port}`);
      claims = gate.check(request.headers.get("authorization"));
    } catch (error) {
      options.onRefused?.(errorText(error));
      return new Response("wrong token\n", { status: 401 });
    }
    const { actor } = claims;
    // Deno's idle timer outlives the socket and would hold the process for half its time; see `keep_alive.ts`.
    const { socket, response } = Deno.upgradeWebSocket(request, { idleTimeout: 0 });
    accept(socket, { options, actor, tickets }).then((link) => {
      if (link === undefined) return;
      if (link.peer !== actor) {
        options.onRefused?.(`${link.peer} came with the token of ${actor}`);
        return link.close(`the token is that of ${actor}`);
      }
      links.add(link);
      link.ended.then(() => links.delete(link));
      if (authority !== undefined && claims.attempt !== null && !link.pulse) {
        keepRenewed(link, { claims, authority, everyMs: options.renewalMs ?? renewalMs });
      }
      onLink(link);
    }, (error) => socket.close(1008, errorText(error).slice(0, 60)));
    return response;
  };
  const onFailed = (reason: string) => options.onRefused?.(`nobody can connect for now: ${reason}`);
  const server = serve({ hostname, port, ...certificate, onFailed }, handler);
  return {
    url: `${certificate === undefined ? "ws" : "wss"}://${name}:${server.port}/`,
    port: server.port,
    async close(): Promise<void> {
      const ended = [...links].map((link) => {
        link.close(`${options.id} stopped listening`);
        return link.ended;
      });
      // The server's shutdown would cut short what still waits to leave.
      await deadline(Promise.all(ended), 2_000).catch(() => {});
      await server.shutdown();
    },
  };
}

/** Gives an actor that has no secret a newer token now and then, as long as its link lives: its host may be gone. */
function keepRenewed(
  link: SocketLink,
  { claims, authority, everyMs }: { claims: Claims; authority: Authority; everyMs: number },
): void {
  const renew = () => {
    try {
      link.send({ type: "renewed", token: authority.token(claims) });
    } catch {
      // It is ending, and says so itself.
    }
  };
  const timer = setInterval(renew, everyMs);
  Deno.unrefTimer(timer);
  link.ended.then(() => clearInterval(timer));
  renew();
}

/** Who presents itself; whoever has the run's secret speaks under its own name. */
export function identityOf({ id, token, policy }: { id: string; token: string | Identity; policy?: Policy }): Identity {
  if (typeof token !== "string") return token;
  return Identity.ofSecret(token, { actor: id, role: policy?.roleOf(id) ?? "actor", attempt: null });
}

function gateOf(options: ListenOptions, address: string): Gate {
  const { id, policy, lowestOf } = options;
  const roleOf = policy && ((actor: string) => policy.roleOf(actor));
  return new Gate({ identity: identityOf(options), audiences: [id, address], roleOf, lowestOf });
}

/** What is refused whoever sends it. */
function refusedRequest(request: Request): { response: Response; reason: string } | undefined {
  const refuse = (status: number, reason: string) => ({ response: new Response(`${reason}\n`, { status }), reason });
  if (request.headers.get("origin") !== null) return refuse(403, "browsers are not served here");
  if (request.headers.get("upgrade")?.toLowerCase() !== "websocket") {
    return refuse(426, "this address speaks WebSocket only");
  }
  return undefined;
}

/** A second connection to the listener `options.peer`, which belongs to the link that it named `ticket`. */
async function dialBulk(
  url: string,
  options: ConnectOptions & { peer: string },
  ticket: string | undefined,
): Promise<WebSocket> {
  if (ticket === undefined) throw new WireError(`${options.peer} takes no bulk connection`);
  return await openSocket(url, options, (socket, { id }) => {
    if (id !== options.peer) throw new WireError(`${id} answers at the address of ${options.peer}`);
    socket.send(greetingFrame(options.id, { bulk: ticket }));
    return socket;
  });
}

/** Connects; what `greeted` makes of the listener's greeting. */
async function openSocket<T>(
  url: string,
  options: ConnectOptions,
  greeted: (socket: WebSocket, greeting: Greeting) => T,
): Promise<T> {
  const timeoutMs = options.timeoutMs ?? 10_000;
  requireSafeAddress(url);
  let socket: WebSocket | undefined;
  const { authority } = options.tls ?? {};
  const client = authority === undefined ? undefined : Deno.createHttpClient({ caCerts: [authority] });
  try {
    const audience = options.peer ?? `@${new URL(url).host}`;
    socket = new WebSocket(url, { headers: { authorization: identityOf(options).header(audience) }, client });
    return await deadline(greetingOf(socket, greeted), timeoutMs);
  } catch (error) {
    socket?.close();
    const timedOut = error instanceof DOMException && error.name === "TimeoutError";
    if (!timedOut) throw new WireError(`connecting to ${url}: ${errorText(error)}`, { cause: error });
    throw new WireError(`connecting to ${url}: no answer within ${timeoutMs} ms; check that it runs and is reachable`);
  } finally {
    // What is connected stays so.
    client?.close();
  }
}

/** The listener's side: greets first, then waits for the client's; undefined for a bulk connection of a link. */
async function accept(
  socket: WebSocket,
  { options, actor, tickets }: { options: ListenOptions; actor: string; tickets: Map<string, SocketLink> },
): Promise<SocketLink | undefined> {
  const ticket = crypto.randomUUID();
  socket.addEventListener("open", () => socket.send(greetingFrame(options.id, { ticket })), { once: true });
  const greeted = (socket: WebSocket, { id: peer, pulse, bulk }: Greeting): SocketLink | undefined => {
    if (bulk === undefined) {
      const link = new SocketLink(socket, endOptions(options, { peer, pulse }));
      tickets.set(ticket, link);
      link.ended.then(() => tickets.delete(ticket));
      return link;
    }
    const link = tickets.get(bulk);
    if (link === undefined || link.peer !== peer || peer !== actor) throw new WireError("there is no such link");
    tickets.delete(bulk);
    link.addBulk(socket);
    return undefined;
  };
  return await deadline(greetingOf(socket, greeted), options.greetingTimeoutMs ?? 5_000);
}

function endOptions(
  options: LinkLimits & { id: string; policy?: Policy; keepAliveMs?: number },
  { peer, pulse }: { peer: string; pulse: boolean },
): EndOptions {
  const { id, policy, keepAliveMs } = options;
  const admit = policy && admission(policy, { peer, own: id, now: () => performance.now() });
  return { peer, pulse, bounds: linkLimits(options), admit, keepAliveMs };
}

/** What `greeted` makes of the peer's greeting, as soon as it has come. */
function greetingOf<T>(socket: WebSocket, greeted: (socket: WebSocket, greeting: Greeting) => T): Promise<T> {
  socket.binaryType = "arraybuffer";
  return new Promise((resolve, reject) => {
    socket.onerror = (event) => reject(new WireError(connectError(event)));
    socket.onclose = (event) => reject(new WireError(event.reason || "closed before the greeting"));
    socket.onmessage = (event) => {
      try {
        if (!(event.data instanceof ArrayBuffer)) throw new WireError("first frame is no greeting");
        resolve(greeted(socket, readGreeting(new Uint8Array(event.data))));
      } catch (error) {
        socket.onmessage = null;
        reject(error);
      }
    };
  });
}

function connectError(event: Event): string {
  const text = event instanceof ErrorEvent ? event.message : "connection failed";
  if (text.includes("401")) return "the token was refused; pass the token that the run printed";
  if (text.includes("dns error")) {
    return "the name stands for no address; check its spelling and this machine's resolver";
  }
  if (text.includes("tcp connect error")) return "nobody listens there; check the address and that the run is up";
  return text;
}
