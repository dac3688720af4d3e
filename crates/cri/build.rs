//! Compiles the interface definition without `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto/api.proto");
    let files = protox::compile(["proto/api.proto"], ["proto"])?;
    // what a server does not have it refuses as unimplemented
    tonic_prost_build::configure()
        .generate_default_stubs(true)
        .compile_fds(files)?;
    Ok(())
}
