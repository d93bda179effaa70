/** Child of flow_test.ts: a reader at the address in its argument; answers "saved" once it has all that was announced. */
import { connectSocket } from "../../wire/socket_link.ts";

const [url, token, count] = Deno.args;
const link = await connectSocket(url, { id: "right", token });
const names: string[] = [];
link.onMessage = (message) => {
  if (message.type === "weights-part") names.push(message.name);
  if (message.type !== "ping" && names.length < Number(count)) return;
  link.send({ type: "log", level: "info", text: names.join(" ") });
};
link.onClose = () => Deno.exit(0);
