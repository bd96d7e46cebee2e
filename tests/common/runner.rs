//! Random cases: the same in every run, so that what passes here passes elsewhere; other ones in each soak.

use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

pub fn runner(cases: u32, soak: u32) -> TestRunner {
    let config = |cases| Config { cases, failure_persistence: None, ..Config::default() };
    match std::env::var_os("KINGLET_SOAK") {
        Some(_) => TestRunner::new(config(soak)),
        None => TestRunner::new_with_rng(config(cases), TestRng::deterministic_rng(RngAlgorithm::ChaCha)),
    }
}
