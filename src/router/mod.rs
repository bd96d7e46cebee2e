//! The router: which answers stay local, and what can be promised of those that do.

pub mod artifact;
pub mod binomial;
pub mod calibration;
pub mod certify;
pub mod curve;
pub mod drift;
pub mod examples;
pub mod feasibility;
pub mod isotonic;
pub mod logistic;
pub mod replay;
