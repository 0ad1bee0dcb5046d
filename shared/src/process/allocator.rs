//! The allocator of every program that has a service in it: what is shipped, what `cargo dev` starts, and what tests start.
//! It stands here so that none of them can have another: the compiler refuses a second one.

/// What it is worth was measured: `tests/load/README.md`, "What a profiler found".
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
