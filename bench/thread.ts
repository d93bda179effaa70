/** A Worker of a benchmark, told what to do by orders and listened to for news. It knows none of either. */

/** News of any thread: what failed ends every wait. */
export type Failed = { readonly what: "failed"; readonly error: string };

interface Wait<News> {
  take(news: News): boolean;
  reject(error: Error): void;
}

/** One Worker; news that nobody waits for yet is kept. */
export class Thread<Order, News extends { readonly what: string }> {
  readonly #worker: Worker;
  readonly #waits = new Set<Wait<News>>();
  #kept: News[] = [];
  #error: Error | undefined;

  constructor(module: URL) {
    this.#worker = new Worker(module, { type: "module" });
    this.#worker.addEventListener("error", (event) => {
      event.preventDefault();
      this.fail(new Error(event.message));
    });
    this.#worker.addEventListener("message", ({ data }: MessageEvent<News | Failed>) => this.#receive(data));
  }

  /** Gives an order; ports go over to the Worker. */
  tell(order: Order, ports: MessagePort[] = []): void {
    this.#worker.postMessage(order, ports);
  }

  /** The next news of a kind that `fits`. */
  hear<What extends News["what"]>(
    what: What,
    fits: (news: Extract<News, { what: What }>) => boolean = () => true,
  ): Promise<Extract<News, { what: What }>> {
    const is = (news: News): news is Extract<News, { what: What }> => news.what === what;
    return new Promise((resolve, reject) => {
      if (this.#error !== undefined) return reject(this.#error);
      const wait: Wait<News> = {
        reject,
        take: (news) => {
          if (!is(news) || !fits(news)) return false;
          resolve(news);
          return true;
        },
      };
      const at = this.#kept.findIndex((news) => wait.take(news));
      if (at >= 0) this.#kept.splice(at, 1);
      else this.#waits.add(wait);
    });
  }

  /** Ends all waits, those to come too. */
  fail(error: Error): void {
    this.#error ??= error;
    for (const wait of this.#waits) wait.reject(this.#error);
    this.#waits.clear();
  }

  /** Ends the Worker. */
  close(): void {
    this.#worker.terminate();
  }

  #receive(news: News | Failed): void {
    if (isFailed(news)) return this.fail(new Error(news.error));
    for (const wait of this.#waits) {
      if (!wait.take(news)) continue;
      this.#waits.delete(wait);
      return;
    }
    this.#kept.push(news);
  }
}

function isFailed(news: { readonly what: string }): news is Failed {
  return news.what === "failed";
}
