import { memoryLinkPair } from "../../wire/memory_link.ts";
import { linkExam } from "./link_exam.ts";

linkExam("memory", (limits) => {
  const [left, right] = memoryLinkPair("left", "right", limits);
  const close = () => {
    left.close("test over");
    return Promise.resolve();
  };
  return Promise.resolve({ left, right, close });
});
