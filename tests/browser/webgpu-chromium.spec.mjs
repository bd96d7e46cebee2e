// WebGPU as Chromium has it (Dawn), on SwiftShader: subgroups of 4, no 16-bit floats, seconds for each kernel it compiles.
import { launch, SWIFTSHADER } from "./lib/browser.mjs";
import { openGpu } from "./lib/gpu.mjs";
import { gpuSuite } from "./lib/gpu-suite.mjs";

gpuSuite("Chromium", await openGpu("Chromium", () => launch(SWIFTSHADER)), { slow: true });
