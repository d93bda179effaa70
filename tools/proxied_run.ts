/**
 * A run with a host whose connections to the controller, and those of its actors, go through a bad network
 * (`fault_proxy.ts`): all of it late at first, then held back one way while its links to the other actors live on. What
 * network namespaces show better (`partition.ts`), this shows wherever there is a loopback.
 */
import { runCluster } from "../actors/cluster.ts";
import { FaultProxy, type Way } from "./fault_proxy.ts";
import { endOf, localHostOptions, startJoinedHost } from "./joined_host.ts";
import { digestInPeace, RunWatch } from "./run_watch.ts";
import { smallConfig } from "./small_run.ts";

/** What came of it. */
export interface ProxiedReport {
  /** Losses while all came 200 ms late. */
  readonly lossesWhenLate: number;
  readonly wrong: readonly string[];
  readonly expected: string;
  readonly found: string;
}

const lateMs = 200;

/** Runs the model with a late host that is then cut off `ways`, one after the other, each time until it has come again. */
export async function proxiedRun(
  { folder, ways, gpuEnvironment, peaceHere }: {
    folder: string;
    ways: readonly Way[];
    gpuEnvironment: Readonly<Record<string, string>>;
    /** Whether this process can compute the run in peace itself. */
    peaceHere: boolean;
  },
): Promise<ProxiedReport> {
  const config = (name: string) =>
    smallConfig(folder, name, {
      steps: 100_000,
      replicas: 2,
      syncBatchNormGroup: 2,
      checkpoint: { everySteps: 4, keep: 2 },
      cluster: { trainers: 2 },
    });
  const watch = new RunWatch();
  const over = new AbortController();
  const listening = Promise.withResolvers<{ url: string; token: string }>();
  const running = runCluster({
    config: config("proxied"),
    hosts: 2,
    gpuEnvironment,
    signal: over.signal,
    onListening: listening.resolve,
    onEvent: (event) => watch.take(event),
  }).then((outcome) => {
    watch.end(outcome.outcome === "failed" ? `${outcome.failure.actor}: ${outcome.failure.error}` : undefined);
    return outcome;
  });
  const { url, token } = await listening.promise;
  await using proxy = new FaultProxy(Number(new URL(url).port));
  proxy.delayMs = lateMs;
  const hosts: Deno.ChildProcess[] = [];
  const join = () => {
    const options = localHostOptions({ url: `ws://127.0.0.1:${proxy.port}/`, token }, { gpuEnvironment });
    hosts.push(startJoinedHost(`host-p${hosts.length}`, options));
  };
  let lossesWhenLate = 0;
  try {
    join();
    await watch.until(() => watch.took === 2 && watch.next >= 6, "steps of two trainers");
    lossesWhenLate = watch.acted;
    proxy.delayMs = 0;
    for (const way of ways) {
      const { acted } = watch;
      proxy.hold(way);
      await watch.until(() => watch.acted > acted, "the loss");
      const until = watch.next + 2;
      await watch.until(() => watch.next >= until, "steps of one trainer");
      proxy.release(way);
      // One that hears that it was left out ends; whoever looks after hosts starts another.
      await endOf(hosts[hosts.length - 1]);
      join();
      await watch.until(() => watch.took === 2 && watch.seats.length === 2, "steps of two trainers again");
    }
  } catch (error) {
    watch.wrong.push(error instanceof Error ? error.message : String(error));
  } finally {
    over.abort();
  }
  const outcome = await running;
  await Promise.all(hosts.map(endOf));
  const { wrong } = watch;
  if (outcome.outcome === "failed") return { lossesWhenLate, wrong, expected: "", found: outcome.failure.error };
  const { step, digest } = outcome;
  const expected = await digestInPeace(config("peace"), { step, watch, gpuEnvironment, here: peaceHere });
  return { lossesWhenLate, wrong, expected, found: digest };
}
