"""The numbers of a GGUF shape as ONNX, q4 and q8, for transformers.js in the race of bench.mjs: as the peers' own scripts do it for
SmolLM2-135M, for any shape whose fp32 graph is beyond protobuf's 2 GB too.

usage: PEERS/py/bin/python make_onnx.py --peers PEERS [--models models] [--data ../../../shared/data] SHAPE...
Reads MODELS/SHAPE-Q8_0.gguf, writes PEERS/onnx/SHAPE. The peers' `bash setup.sh onnx` installs what it needs.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic
from transformers import AutoModelForCausalLM

HERE = Path(__file__).parent
TOKENIZERS = {"smollm2": "smollm2", "qwen2.5": "qwen2.5"}


def to_hugging_face(gguf: Path, folder: Path, tokenizer: Path) -> None:
    """Safetensors in float32, tied, beside the tokenizer that the model builder asks for."""
    read = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype="float32")
    for quantized in ("quantization_config", "_pre_quantization_dtype"):
        if hasattr(read.config, quantized):
            delattr(read.config, quantized)
    read.config.tie_word_embeddings = True
    plain = type(read)(read.config)
    plain.load_state_dict(read.state_dict())
    plain.save_pretrained(folder)
    shutil.copy(tokenizer / "tokenizer.json", folder)
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))


def build(source: Path, out: Path, precision: str) -> Path:
    """onnxruntime-genai's graph, the fused form that favours ONNX Runtime most."""
    options = ["prune_lm_head=true", "op_types_to_quantize=MatMul", "shared_embeddings=false"]
    builder = [sys.executable, "-m", "onnxruntime_genai.models.builder"]
    subprocess.run([*builder, "-i", source, "-o", out, "-p", precision, "-e", "cpu", "-c", out / "cache", "--extra_options", *options], check=True)
    return out / "model.onnx"


def pack(graph: Path, out: Path, head_dim: int) -> None:
    """In one file; transformers.js sizes its empty cache from the shapes of inputs and outputs."""
    model = onnx.load(graph)
    for value in [*model.graph.input, *model.graph.output]:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param == "kv_cache_dim":
                dim.dim_value = head_dim
    onnx.save(model, out)
    print(out, out.stat().st_size)


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("shapes", nargs="+")
    arguments.add_argument("--peers", type=Path, required=True)
    arguments.add_argument("--models", type=Path, default=HERE / "models")
    arguments.add_argument("--data", type=Path, default=HERE / "../../../shared/data")
    given = arguments.parse_args()
    for shape in given.shapes:
        tokenizer = next(folder for name, folder in TOKENIZERS.items() if shape.startswith(name))
        out = given.peers / "onnx" / shape
        (out / "onnx").mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=given.peers) as temporary:
            work = Path(temporary)
            to_hugging_face(given.models / f"{shape}-Q8_0.gguf", work / "hf", given.data / "tokenizers" / tokenizer)
            config = json.loads((work / "hf/config.json").read_text())
            config["rope_theta"] = config.get("rope_parameters", {}).get("rope_theta", config.get("rope_theta"))
            config["transformers.js_config"] = {"kv_cache_dtype": {}}
            (out / "config.json").write_text(json.dumps(config, indent=1))
            shutil.copy(work / "hf/generation_config.json", out)
            head_dim = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
            pack(build(work / "hf", work / "q4", "int4"), out / "onnx/model_q4.onnx", head_dim)
            # The Hub's "q8": dynamic int8, DynamicQuantizeLinear and MatMulInteger.
            wide, narrow = build(work / "hf", work / "fp32", "fp32"), work / "q8.onnx"
            quantize_dynamic(wide, narrow, weight_type=QuantType.QUInt8, per_channel=False, op_types_to_quantize=["MatMul"], use_external_data_format=True, extra_options={"EnableSubgraph": False})
            pack(narrow, out / "onnx/model_quantized.onnx", head_dim)


main()
