// WebGPU as Firefox has it (wgpu), on Mesa's lavapipe: 16-bit floats, no subgroups, slow ways to the device and back.
import { launchFirefox } from "./lib/browser.mjs";
import { openGpu } from "./lib/gpu.mjs";
import { gpuSuite } from "./lib/gpu-suite.mjs";

gpuSuite("Firefox", await openGpu("Firefox", launchFirefox));
