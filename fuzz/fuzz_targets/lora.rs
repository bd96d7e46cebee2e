#![no_main]

#[path = "../bodies/lora.rs"]
mod lora;

const CONFIG: &str = r#"{"peft_type": "LORA", "r": 2, "lora_alpha": 4, "bias": "none"}"#;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    lora::run(bytes, None);
    lora::run(bytes, Some(CONFIG));
});
