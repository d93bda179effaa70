/**
 * An HTTP server that listens for as long as it is wanted: Deno's own ends for good when a connection cannot be accepted,
 * as when no file descriptor is left. It knows no request.
 */
import { WireError } from "./error.ts";
import { errorText } from "./link.ts";

/** Time between attempts to listen again. */
const againMs = 250;

/** Where to listen and with what; both or none of `cert` and `key`. */
export interface ServerOptions {
  readonly hostname: string;
  /** 0 takes any free port. */
  readonly port: number;
  readonly cert?: string;
  readonly key?: string;
  /** Told why it listens no more, for now. */
  readonly onFailed: (reason: string) => void;
}

/** A server that is open. */
export interface Server {
  readonly port: number;
  shutdown(): Promise<void>;
}

/**
 * Opens a server.
 *
 * @throws {WireError} when the address cannot be bound.
 */
export function serve(options: ServerOptions, handler: (request: Request) => Response): Server {
  let server = open(options, handler);
  const { port } = server.addr;
  let closing = false;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const again = () => {
    if (closing) return;
    try {
      server = open({ ...options, port }, handler);
      watch();
    } catch {
      timer = setTimeout(again, againMs);
    }
  };
  const watch = () => {
    server.finished.catch((error) => {
      options.onFailed(errorText(error));
      if (!closing) timer = setTimeout(again, againMs);
    });
  };
  watch();
  return {
    port,
    async shutdown(): Promise<void> {
      closing = true;
      clearTimeout(timer);
      await server.shutdown().catch(() => {});
    },
  };
}

function open(
  { hostname, port, cert, key }: ServerOptions,
  handler: (request: Request) => Response,
): Deno.HttpServer<Deno.NetAddr> {
  const tls = cert === undefined || key === undefined ? {} : { cert, key };
  try {
    return Deno.serve({ hostname, port, ...tls, onListen() {} }, handler);
  } catch (error) {
    if (error instanceof Deno.errors.AddrInUse) {
      throw new WireError(
        `listening on ${hostname}:${port}: the port is in use; stop what uses it or pass --port with another`,
      );
    }
    throw new WireError(`listening on ${hostname}:${port}: ${errorText(error)}`);
  }
}
