//! The embedded model on questions that its training did not have (`models/text`), and the calibration that comes with it. All of them,
//! with shares and rankings, are `models/evaluate.py`'s business; the model card has the figures.

use kinglet::formats::Checkpoint;
use kinglet::generate::{AnswerSignals, GenerateOptions};
use kinglet::router::artifact::{Calibration, MadeFor};
use kinglet::router::json::Value;
use kinglet::router::veto::{Veto, veto};
use kinglet::session::{LoadOptions, Request, Session, Step};
use kinglet::source::FileSource;
use kinglet::text::Message;
use pollster::block_on;
use sha2::{Digest, Sha256};

const MODELS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models");

fn greedy() -> GenerateOptions {
    GenerateOptions { temperature: 0.0, ..GenerateOptions::default() }
}

fn open() -> [FileSource; 1] {
    [FileSource::open(format!("{MODELS}/kinglet-tiny.gguf")).unwrap()]
}

fn calibration() -> Calibration {
    Calibration::from_json(&std::fs::read_to_string(format!("{MODELS}/kinglet-tiny.calibration.json")).unwrap())
        .unwrap()
}

struct Answer {
    text: String,
    signals: AnswerSignals,
}

fn answer(session: &mut Session, question: &str) -> Answer {
    let message = Message { role: "user".into(), content: question.into(), rest: Default::default() };
    session.start(&Request { messages: Some(vec![message]), options: greedy(), ..Request::default() }).unwrap();
    let mut said = String::new();
    loop {
        match block_on(session.step()).unwrap() {
            Step::Prefill { .. } => {}
            Step::Token { text, .. } => said += &text,
            Step::Done { text, signals, .. } => return Answer { text: said + &text, signals: *signals },
        }
    }
}

/// (held-out questions, the answer) of each intent of a file; wordings are parted by " | ".
fn intents(file: &str) -> Vec<(Vec<String>, String)> {
    let text = std::fs::read_to_string(format!("{MODELS}/text/{file}.txt")).unwrap();
    let of = |block: &str, kind: &str| {
        let lines = block.lines().filter_map(|line| line.strip_prefix(kind));
        lines.flat_map(|line| line.split(" | ")).map(|wording| wording.trim().to_string()).collect::<Vec<_>>()
    };
    let blocks = text.split("\n= ").skip(1).map(|block| (of(block, "H: "), of(block, "A: ").concat()));
    blocks.filter(|(held, _)| !held.is_empty()).collect()
}

/// What a router in auto mode would do with an answer.
fn kept(calibration: &Calibration, answer: &Answer) -> bool {
    veto(&answer.text, false, &Value::Null).is_none() && calibration.verdict(&answer.signals, false).keep
}

#[test]
fn answers_about_kinglet_are_right_and_stay() {
    let mut session = block_on(Session::load(&mut open(), LoadOptions::default(), |_, _| {})).unwrap();
    let (calibration, mut asked, mut right, mut stay) = (calibration(), 0, 0, 0);
    for (held, wanted) in intents("kinglet").iter().step_by(3) {
        for question in held {
            let answer = answer(&mut session, question);
            asked += 1;
            if answer.text == *wanted {
                right += 1;
                stay += usize::from(kept(&calibration, &answer));
            }
        }
    }
    println!("{right} of {asked} right, {stay} of them kept");
    assert!(asked > 90 && right * 20 >= asked * 17, "{right} of {asked} right");
    assert!(stay * 10 >= right * 8, "{stay} of {right} kept");
}

#[test]
fn what_it_does_not_know_does_not_stay() {
    let mut session = block_on(Session::load(&mut open(), LoadOptions::default(), |_, _| {})).unwrap();
    let text = std::fs::read_to_string(format!("{MODELS}/text/unknown.txt")).unwrap();
    let held = text.lines().filter_map(|line| line.strip_prefix("H: ")).flat_map(|line| line.split(" | "));
    let (calibration, mut asked, mut declined, mut stay) = (calibration(), 0, 0, 0);
    for question in held {
        let answer = answer(&mut session, question);
        asked += 1;
        declined += usize::from(veto(&answer.text, false, &Value::Null) == Some(Veto::Refusal));
        stay += usize::from(kept(&calibration, &answer));
    }
    println!("{declined} of {asked} declined, {stay} kept");
    assert!(asked >= 80 && declined * 10 >= asked * 8, "{declined} of {asked} declined");
    assert!(stay * 10 <= asked, "{stay} of {asked} kept");
}

#[test]
fn the_calibration_is_of_this_model() {
    let bytes = std::fs::read(format!("{MODELS}/kinglet-tiny.gguf")).unwrap();
    let sha256: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    let checkpoint = block_on(Checkpoint::open(&mut open())).unwrap();
    let template = checkpoint.metadata.string("tokenizer.chat_template").unwrap().unwrap();
    let calibration = calibration();
    // The extension has it write with the family's.
    let options = LoadOptions { chat_template: Some("family".into()), ..LoadOptions::default() };
    let session = block_on(Session::load(&mut open(), options, |_, _| {})).unwrap();
    assert_eq!(session.template_text(), template);
    assert_eq!(calibration.mismatch(&MadeFor::new(&sha256, template, &greedy(), "cpu")), Vec::<&str>::new());
    let feasibility = &calibration.feasibility;
    assert!(feasibility.certifiable && feasibility.auroc.unwrap() >= 0.9, "{feasibility:?}");
}
