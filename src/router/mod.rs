//! Local first, the cloud when it pays. One half decides which of the two answers, what may leave the device and what
//! it may cost: start reading in [`machine`]. The other says what can be promised of the answers that stay.

pub mod artifact;
pub mod binomial;
pub mod calibration;
pub mod certify;
pub mod curve;
pub mod drift;
pub mod examples;
pub mod feasibility;
pub mod isotonic;
pub mod judge;
pub mod logistic;
pub mod replay;

pub mod breaker;
pub mod budget;
pub mod consent;
pub mod fault;
pub mod json;
pub mod ledger;
pub mod machine;
pub mod openai;
pub mod policy;
pub mod privacy;
pub mod reader;
pub mod record;
pub mod sealed;
pub mod sse;
mod text;
pub mod veto;
