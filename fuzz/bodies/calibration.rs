//! One execution of the calibration fuzz target, shared by `fuzz_targets/calibration.rs` and `tests/router/artifact.rs`:
//! what is accepted decides soundly whatever the answer, and nothing panics.

use kinglet::generate::AnswerSignals;
use kinglet::generate::answer_signals::Signal;
use kinglet::router::artifact::Calibration;
use kinglet::router::drift::DriftMonitor;

/// Whether the calibration was accepted.
pub fn run(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let Ok(calibration) = Calibration::from_json(text) else { return false };
    let mut monitor = DriftMonitor::new(calibration.reference.clone());
    for value in [-f64::MAX, -1e9, -0.3, 0.0, 1e-300, 1.0, f64::MAX] {
        let mut signals = AnswerSignals::NONE;
        assert!(!calibration.verdict(&signals, false).keep || calibration.model.logistic.terms.is_empty());
        for signal in ALL {
            signals.set(signal, value);
        }
        let [usual, alarmed] = [false, true].map(|alarm| calibration.verdict(&signals, alarm));
        let p_ok = usual.p_ok.expect("all signals are known");
        assert!((0.0..=1.0).contains(&p_ok) && (0.0..=1.0).contains(&usual.tau), "{usual:?}");
        assert!(alarmed.tau >= usual.tau && (usual.keep || !alarmed.keep));
        for _ in 0..40 {
            monitor.push(p_ok, &signals);
        }
    }
    let distance = monitor.last().expect("a full window");
    assert!((0.0..=1.0).contains(&distance.p_ok) && (0.0..=1.0).contains(&distance.log_length), "{distance:?}");
    let again = Calibration::from_json(&calibration.to_json()).expect("what was accepted is accepted again");
    assert_eq!(again, calibration);
    true
}

const ALL: [Signal; 13] = [
    Signal::MeanLogprob,
    Signal::MinLogprob,
    Signal::Q05,
    Signal::Q10,
    Signal::Q20,
    Signal::Q50,
    Signal::LowShare,
    Signal::MeanEntropy,
    Signal::MaxEntropy,
    Signal::Margin,
    Signal::FirstTokenEntropy,
    Signal::LowestWindow,
    Signal::LogLength,
];
