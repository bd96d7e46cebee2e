//! The deciding half of the router in virtual time: modes, faults, random orders of events, privacy, event streams.

#[path = "common/runner.rs"]
mod runner;

#[path = "router_machine/decisions.rs"]
mod decisions;
#[path = "router_machine/faults.rs"]
mod faults;
#[path = "router_machine/json.rs"]
mod json;
#[path = "router_machine/observer.rs"]
mod observer;
#[path = "router_machine/orders.rs"]
mod orders;
#[path = "router_machine/privacy.rs"]
mod privacy;
#[path = "router_machine/scripts.rs"]
mod scripts;
#[path = "router_machine/shell.rs"]
mod shell;
#[path = "router_machine/sse.rs"]
mod sse;
#[path = "router_machine/world.rs"]
mod world;
