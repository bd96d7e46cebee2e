//! Adapters that cannot be used: each is refused as BAD_ADAPTER, in words that say why.

#[path = "common/alloc.rs"]
mod alloc;
#[path = "../fuzz/bodies/lora.rs"]
mod body;
#[path = "common/gguf.rs"]
mod gguf;
#[path = "common/golden.rs"]
mod golden;
#[path = "common/lora.rs"]
mod lora;
#[path = "common/mutate.rs"]
mod mutate;
#[path = "common/safetensors.rs"]
mod safetensors;

use gguf::Gguf;
use kinglet::ErrorCode;
use kinglet::backend::cpu::CpuBackend;
use kinglet::session::Session;
use kinglet::source::MemorySource;
use lora::{Form, adapter, golden_session};
use mutate::{Random, mutate};
use pollster::block_on;
use safetensors::{Tensor, floats, write};
use serde_json::{Value, json};

#[global_allocator]
static ALLOCATOR: alloc::Counting = alloc::Counting;

/// The golden model: 2 layers, hidden 64, 4 heads of 16, 2 of keys and values, feed-forward 96.
fn base() -> Session {
    golden_session("f32", CpuBackend::new)
}

fn refused(session: &mut Session, bytes: &[u8], config: Option<&str>, expected: &str) {
    let error = block_on(session.load_adapter(1, &mut MemorySource(bytes), config)).expect_err(expected);
    assert_eq!(error.code(), ErrorCode::BadAdapter, "{error}");
    assert!(error.to_string().contains(expected), "{expected:?} is not in: {error}");
}

fn query(rank: u64) -> Vec<Tensor> {
    pair("base_model.model.model.layers.0.self_attn.q_proj", rank, 64, 64)
}

fn pair(target: &str, rank: u64, rows: u64, cols: u64) -> Vec<Tensor> {
    vec![
        floats(&format!("{target}.lora_A.weight"), &[rank, cols]),
        floats(&format!("{target}.lora_B.weight"), &[rows, rank]),
    ]
}

fn config(changes: Value) -> String {
    let mut config = json!({ "peft_type": "LORA", "r": 2, "lora_alpha": 4, "bias": "none" });
    for (key, value) in changes.as_object().unwrap() {
        config[key] = value.clone();
    }
    config.to_string()
}

#[test]
fn what_peft_trains_beyond_plain_lora_is_named() {
    let mut session = base();
    let weights = write(&query(2));
    for (changes, expected) in [
        (json!({ "peft_type": "IA3" }), "the method IA3 is not supported"),
        (json!({ "use_dora": true }), "DoRA"),
        (json!({ "use_qalora": true }), "QALoRA"),
        (json!({ "lora_bias": true }), "lora_bias"),
        (json!({ "bias": "all" }), "bias: \"all\""),
        (json!({ "modules_to_save": ["lm_head", "embed_tokens"] }), "modules_to_save: lm_head, embed_tokens"),
        (json!({ "init_lora_weights": "pissa_niter_4" }), "\"pissa_niter_4\", which changes the base model's weights"),
        (json!({ "trainable_token_indices": [1, 2] }), "trainable_token_indices"),
        (json!({ "alora_invocation_tokens": [1] }), "alora_invocation_tokens"),
        (json!({ "r": 0 }), "r is 0"),
        (json!({ "r": 8 }), "has the rank 2, but adapter_config.json says 8"),
        (json!({ "rank_pattern": { "q_proj": 4 } }), "has the rank 2, but adapter_config.json says 4"),
        (json!({ "alpha_pattern": { "(q|k)_proj": 4 } }), "the regular expression \"(q|k)_proj\" in alpha_pattern"),
        (json!({ "lora_alpha": 1e39 }), "has the scale inf"),
        (json!({ "r": "two" }), "adapter_config.json cannot be read"),
    ] {
        refused(&mut session, &weights, Some(&config(changes)), expected);
    }
    refused(&mut session, &weights, Some("{"), "adapter_config.json cannot be read");
    refused(&mut session, &weights, Some("{}"), "missing field `r`");
    // And what changes nothing is none of these.
    for changes in [
        json!({ "modules_to_save": null, "use_dora": false, "init_lora_weights": true, "fan_in_fan_out": true }),
        json!({ "modules_to_save": [], "init_lora_weights": "gaussian", "rank_pattern": {}, "alpha_pattern": null }),
        json!({ "r": 9, "rank_pattern": { "proj": 4, "^self_attn.q_proj": 5, "^model\\.layers\\.0.self_attn.q_proj$": 2, "q_proj": 3 } }),
    ] {
        block_on(session.load_adapter(1, &mut MemorySource(&weights), Some(&config(changes)))).unwrap();
        session.unload_adapter(1).unwrap();
    }
}

#[test]
fn adapters_of_other_models_are_told() {
    let mut session = base();
    let config = config(json!({}));
    let mut with =
        |tensors: Vec<Tensor>, expected: &str| refused(&mut session, &write(&tensors), Some(&config), expected);
    let module = |module: &str| format!("base_model.model.{module}");
    with(
        pair(&module("model.layers.0.self_attn.q_proj"), 2, 128, 128),
        "128 x 128 in its base model and 64 x 64 in this one",
    );
    with(
        pair(&module("model.layers.1.self_attn.k_proj"), 2, 64, 64),
        "64 x 64 in its base model and 32 x 64 in this one",
    );
    with(pair(&module("model.layers.5.mlp.up_proj"), 2, 96, 64), "adapts layer 5, and this model has 2 layers");
    with(pair(&module("model.layers.0.self_attn.qkv_proj"), 2, 128, 64), "which this model lacks");
    with(pair(&module("model.layers.0.block_sparse_moe.gate"), 2, 8, 64), "cannot be adapted");
    with(pair(&module("lm_head"), 2, 320, 64), "lm_head cannot be adapted");
    with(pair(&module("transformer.h.0.attn.c_attn"), 2, 192, 64), "cannot be adapted");
    with(vec![floats(&module("model.embed_tokens.lora_embedding_A"), &[2, 320])], "an adapter of the embedding");
    with(vec![floats(&module("model.layers.0.mlp.up_proj.lora_magnitude_vector.weight"), &[96])], "(DoRA)");
    with(vec![floats(&module("model.norm.weight"), &[64])], "is not supported");
    with(vec![], "it has no LoRA factors");
    with(query(2)[..1].to_vec(), "lacks its factor B");
    with(query(2)[1..].to_vec(), "lacks its factor A");
    with(vec![query(2)[0].clone(), query(3)[1].clone()], "the ranks of model.layers.0.self_attn.q_proj differ");
    let conv = floats(&module("model.layers.0.self_attn.q_proj.lora_A.weight"), &[2, 64, 1, 1]);
    with(vec![conv], "factors have two dimensions");
    let named = query(2)[0].name.replace("lora_A.weight", "lora_A.default.weight");
    with(vec![query(2)[0].clone(), floats(&named, &[2, 64])], "two factors A");
    let other_name = pair(&module("model.language_model.layers.0.self_attn.q_proj"), 2, 64, 64);
    with([query(2), other_name].concat(), "is adapted twice");
}

#[test]
fn broken_safetensors_are_told() {
    let mut session = base();
    let config = config(json!({}));
    let whole = write(&query(2));
    let mut with = |bytes: &[u8], expected: &str| refused(&mut session, bytes, Some(&config), expected);
    with(b"", "truncated");
    with(&whole[..4], "truncated");
    with(&whole[..60], "truncated");
    with(&whole[..whole.len() - 1], "truncated");
    with(&u64::MAX.to_le_bytes(), "not a safetensors file");
    with(b"<!doctype html><html>", "not a safetensors file");
    let header = |json: &str| [&(json.len() as u64).to_le_bytes(), json.as_bytes(), &[0; 64]].concat();
    with(&header("[1, 2]"), "header cannot be read");
    with(
        &header(r#"{"a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 15]}}"#),
        "cannot lie at bytes 0 to 15",
    );
    with(&header(r#"{"a": {"dtype": "F32", "shape": [4], "data_offsets": [16, 0]}}"#), "cannot lie at");
    with(
        &header(r#"{"a": {"dtype": "F32", "shape": [4294967296, 4294967296], "data_offsets": [0, 0]}}"#),
        "cannot lie at",
    );
    with(&header(r#"{"a": {"dtype": "I64", "shape": [2], "data_offsets": [0, 16]}}"#), "the type I64");
    let two = r#"{"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]},
                  "b": {"dtype": "F32", "shape": [4], "data_offsets": [8, 24]}}"#;
    with(&header(two), "overlaps");
    let empty = r#"{"a": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}, "a": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}"#;
    with(&header(empty), "is there twice");
    refused(&mut session, &whole, None, "it is a safetensors file; it has to be llama.cpp's GGUF, or");
}

#[test]
fn broken_gguf_adapters_are_told() {
    let mut session = base();
    let honest = || {
        Gguf::new(3)
            .string("general.architecture", "llama")
            .string("general.type", "adapter")
            .string("adapter.type", "lora")
            .entry("adapter.lora.alpha", 6, 4f32.to_le_bytes())
    };
    let with_query = |file: Gguf| {
        file.tensor("blk.0.attn_q.weight.lora_a", &[64, 2], 0, [0; 512]).tensor(
            "blk.0.attn_q.weight.lora_b",
            &[2, 64],
            0,
            [0; 512],
        )
    };
    let good = with_query(honest()).build();
    block_on(session.load_adapter(1, &mut MemorySource(&good), None)).unwrap();
    session.unload_adapter(1).unwrap();
    let mut with = |file: Gguf, expected: &str| refused(&mut session, &file.build(), None, expected);
    let entries =
        |keys: [(&str, &str); 3]| keys.iter().fold(Gguf::new(3), |file, (key, value)| file.string(key, value));
    let lora = ("adapter.type", "lora");
    with(with_query(Gguf::new(3)), "general.type is missing");
    with(
        with_query(entries([("general.architecture", "llama"), ("general.type", "model"), lora])),
        "general.type is \"model\"",
    );
    let control =
        entries([("general.architecture", "llama"), ("general.type", "adapter"), ("adapter.type", "control")]);
    with(with_query(control), "adapter.type is \"control\"");
    let qwen = entries([("general.architecture", "qwen2"), ("general.type", "adapter"), lora]);
    with(with_query(qwen), "a model of architecture qwen2, and this one is llama");
    with(with_query(honest().array("adapter.alora.invocation_tokens", 4, 1, [0; 4])), "activated LoRA");
    with(honest(), "no LoRA factors");
    with(
        with_query(honest()).tensor("blk.0.attn_norm.weight", &[64], 0, [0; 256]),
        "blk.0.attn_norm.weight is not supported",
    );
    let tied = |file: Gguf, name: &str| {
        file.tensor(&format!("{name}.lora_a"), &[64, 2], 0, [0; 512]).tensor(
            &format!("{name}.lora_b"),
            &[2, 64],
            0,
            [0; 512],
        )
    };
    with(tied(honest(), "token_embd.weight"), "64 x 64 in its base model and 320 x 64");
    with(tied(honest(), "blk.2.attn_q.weight"), "adapts layer 2, and this model has 2");
    with(tied(honest(), "blk.0.attn_x.weight"), "which this model lacks");
    with(honest().tensor("blk.0.attn_q.weight.lora_a", &[64, 2], 0, [0; 512]), "lacks its factor B");
    with(honest().tensor("blk.0.attn_q.weight.lora_a", &[256, 2], 11, [0; 220]), "Q3_K");
    refused(&mut session, &good[..good.len() - 40], None, "truncated");
    refused(&mut session, b"{\"peft_type\"", None, "it is JSON");
}

/// The adapters' fuzz target under a deterministic mutation fuzzer. `KINGLET_SOAK=1`: half a million executions.
#[test]
fn mutated_adapters_do_no_harm() {
    let soak = std::env::var_os("KINGLET_SOAK").is_some();
    let executions = if soak { 500_000 } else { 10_000 };
    let seeds: Vec<_> = [("f32", "some"), ("q4_0", "some"), ("f32", "all")]
        .into_iter()
        .flat_map(|(name, kind)| [Form::Peft, Form::Gguf].map(|form| adapter(name, kind, form)))
        .collect();
    let mut taken = 0;
    for i in 0..executions {
        let mut random = Random::new(0x6b69_6e67_6c65_7402 ^ i);
        let (mut bytes, mut config) = seeds[random.below(seeds.len())].clone();
        for _ in 0..1 + random.below(3) {
            mutate(&mut bytes, &mut random);
        }
        if let Some(text) = &mut config
            && random.below(4) == 0
        {
            let mut changed = text.clone().into_bytes();
            mutate(&mut changed, &mut random);
            *text = String::from_utf8_lossy(&changed).into();
        }
        let (result, peak) = alloc::peak_of(|| std::panic::catch_unwind(|| body::run(&bytes, config.as_deref())));
        let hex = || bytes.iter().take(4096).map(|byte| format!("{byte:02x}")).collect::<String>();
        assert!(peak < (2 << 20) + 48 * bytes.len(), "execution {i} held {peak} bytes of {}: {}", bytes.len(), hex());
        match result {
            Ok(ok) => taken += u64::from(ok),
            Err(_) => panic!("execution {i} panicked: {}", hex()),
        }
    }
    // Some must pass, or what lies behind the header was never reached.
    assert!(taken > executions / 20, "only {taken} of {executions} were taken");
    println!("{executions} executions, {taken} taken");
}
