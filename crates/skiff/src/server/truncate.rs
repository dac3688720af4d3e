//! `--unsafe-truncate-log`: cuts a damaged log where it is still good, for who has no backup.

use super::ServerError;
use super::args::ServerArgs;

/// Cuts the log and says what was given up.
pub fn run(args: &ServerArgs) -> Result<(), ServerError> {
    let dir = args.data_dir.join("server/db");
    let at = |source| ServerError::File {
        path: dir.clone(),
        source,
    };
    if !dir.is_dir() {
        return Err(at(std::io::ErrorKind::NotFound.into()));
    }
    let disk = etcd::disk::Directory::open(&dir).map_err(at)?;
    let Some(done) = etcd::truncate(&disk, &etcd::EmbeddedConfig::default())? else {
        println!("the datastore in {} is not damaged; nothing was cut", dir.display());
        return Ok(());
    };
    println!("{}", done.fault);
    println!("{} bytes were cut off; they are kept in {}:", done.bytes, dir.display());
    done.files.iter().for_each(|file| println!("  {file}"));
    match done.lost {
        Some(lost) => println!(
            "kept: up to revision {}; given up: revisions {} to {lost}",
            done.kept,
            done.kept + 1
        ),
        None => println!(
            "kept: up to revision {}; given up: whatever was written after it",
            done.kept
        ),
    }
    println!(
        "the next write has revision {}, so that clients see no revision twice",
        done.revision + 1
    );
    Ok(())
}
