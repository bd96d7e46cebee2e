// What the tests of WebGPU share: a browser that has it, and ways to take it away.
import { openPackage } from "./package.mjs";

/**
 * The package in a browser with WebGPU. Without it CI fails; elsewhere `missing` says so, for the tests to skip.
 * @param {string} name
 * @param {() => Promise<unknown>} start
 */
export async function openGpu(name, start) {
  const it = await openPackage(start);
  const adapter = await it.page.evaluate(async () => Boolean(await /** @type {any} */ (navigator).gpu?.requestAdapter()));
  const missing = !adapter && `${name} has no WebGPU here: run \`cargo xtask setup\`, which installs what it needs`;
  if (missing && process.env.CI) {
    await it.close();
    throw new Error(missing);
  }
  if (missing) console.warn(`\n  SKIPPED: ${missing}\n`);
  return {
    ...it,
    missing,
    async open() {
      await it.open();
      await it.page.evaluate(inPage);
    },
  };
}

/** Runs in the page. */
function inPage() {
  Object.assign(globalThis, {
    /**
     * A worker whose device is destroyed at one of its operations, counted from the start or from the first request.
     * Everything that a backend does with a device is an operation. `patch` runs in the worker too.
     */
    losing(/** @type {Point} */ at, patch = "") {
      const channel = `kinglet-test-${Math.random()}`;
      const start = patched(`
        ${patch}
        const at = ${JSON.stringify(at ?? {})};
        const devices = [];
        let [answering, operations, lost] = [false, 0, false];
        function lose() {
          lost = true;
          for (const device of devices) device.destroy();
        }
        function count(...prototypes) {
          for (const prototype of prototypes) {
            for (const [name, { value }] of Object.entries(Object.getOwnPropertyDescriptors(prototype))) {
              if (typeof value !== "function" || name === "constructor" || name === "destroy") continue;
              prototype[name] = function (...args) {
                if (operations++ === (answering ? at.answering : at.loading)) lose();
                return value.apply(this, args);
              };
            }
          }
        }
        count(GPUDevice.prototype, GPUQueue.prototype, GPUBuffer.prototype, GPUCommandEncoder.prototype);
        const { requestDevice } = GPUAdapter.prototype;
        GPUAdapter.prototype.requestDevice = async function (...args) {
          const device = await requestDevice.apply(this, args);
          devices.push(device);
          return device;
        };
        self.addEventListener("message", ({ data }) => {
          if (data.type === "run" && !answering) [answering, operations] = [true, 0];
        });
        const channel = new BroadcastChannel("${channel}");
        channel.onmessage = () => channel.postMessage({ operations, lost });`);
      return {
        start,
        /** Since the start, or since the first request. */
        seen() {
          const ask = new BroadcastChannel(channel);
          return new Promise((resolve) => {
            ask.onmessage = ({ data }) => (ask.close(), resolve(data));
            ask.postMessage("?");
          });
        },
      };
    },
  });
}
