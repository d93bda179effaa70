/** The one error of a bad configuration. It knows no key. */

/** A configuration that cannot be used; the message is for the user and needs no stack trace. */
export class ConfigError extends TypeError {
  override readonly name = "ConfigError";
  /** Dotted path of the key at fault; empty when there is no single one. */
  readonly path: string;

  constructor(path: string, message: string) {
    super(message);
    this.path = path;
  }
}
