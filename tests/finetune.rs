//! The example's adapter (`examples/finetune`) on questions in wordings that it was not trained on, as its README says.

use kinglet::generate::{AdapterUse, GenerateOptions};
use kinglet::session::{LoadOptions, Request, Session, Step};
use kinglet::source::FileSource;
use kinglet::text::Message;
use pollster::block_on;
use serde::Deserialize;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

#[derive(Deserialize)]
struct Question {
    question: String,
    contains: String,
}

fn answer(session: &mut Session, question: &str, adapters: Vec<AdapterUse>) -> String {
    let options = GenerateOptions { temperature: 0.0, max_tokens: Some(40), adapters, ..GenerateOptions::default() };
    let message = Message { role: "user".into(), content: question.into(), rest: Default::default() };
    session.start(&Request { messages: Some(vec![message]), options, ..Request::default() }).unwrap();
    let mut said = String::new();
    loop {
        match block_on(session.step()).unwrap() {
            Step::Prefill { .. } => {}
            Step::Token { text, .. } => said += &text,
            Step::Done { text, .. } => return said + &text,
        }
    }
}

#[test]
fn the_adapter_knows_what_the_base_does_not() {
    let mut shards = [FileSource::open(format!("{ROOT}/models/kinglet-tiny.gguf")).unwrap()];
    let mut session = block_on(Session::load(&mut shards, LoadOptions::default(), |_, _| {})).unwrap();
    let folder = format!("{ROOT}/examples/finetune");
    let config = std::fs::read_to_string(format!("{folder}/adapter/adapter_config.json")).unwrap();
    let mut weights = FileSource::open(format!("{folder}/adapter/adapter_model.safetensors")).unwrap();
    block_on(session.load_adapter(1, &mut weights, Some(&config))).unwrap();
    let lines = std::fs::read_to_string(format!("{folder}/held-out.jsonl")).unwrap();
    let (mut asked, mut base, mut adapted) = (0, 0, 0);
    for line in lines.lines().filter(|line| !line.trim().is_empty()) {
        let Question { question, contains } = serde_json::from_str(line).unwrap();
        let mut right = |adapters| {
            let said = answer(&mut session, &question, adapters);
            usize::from(said.to_lowercase().contains(&contains.to_lowercase()))
        };
        asked += 1;
        base += right(Vec::new());
        adapted += right(vec![AdapterUse { id: 1, scale: 1.0 }]);
    }
    println!("right: {base} of {asked} without the adapter, {adapted} with it");
    assert_eq!((asked, base), (28, 0));
    // 26 in the floats that it was trained in; a near tie may fall elsewhere on another machine.
    assert!(adapted >= 20, "{adapted}");
}
