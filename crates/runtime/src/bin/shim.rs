//! The shim alone, for tests: `skiff-shim shim <directory>`.

fn main() {
    let args: Vec<String> = std::env::args().skip(2).collect();
    runtime::shim::main(&args);
}
