//! `skiff image`: the images of the node that runs.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use cri::v1;

use crate::node_paths::{DEFAULT_DATA_DIR, NodePaths};

/// The flags of `skiff image`.
#[derive(Debug, Args)]
pub struct ImageArgs {
    /// Folder that holds the node's state.
    #[arg(short = 'd', long, global = true, default_value = DEFAULT_DATA_DIR)]
    data_dir: PathBuf,
    #[command(subcommand)]
    command: ImageCommand,
}

#[derive(Debug, Subcommand)]
enum ImageCommand {
    /// Imports the images of OCI and docker archives, plain or compressed; `-` is the standard input.
    Import {
        #[arg(required = true)]
        archives: Vec<PathBuf>,
    },
    /// Lists the images.
    Ls,
    /// Removes images by name or id. An image that has other names keeps them.
    Rm {
        #[arg(required = true)]
        images: Vec<String>,
    },
}

/// Why images cannot be imported or listed.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    #[error("no node runs on {}: start skiff first", .0.display())]
    NoNode(PathBuf),
    #[error(transparent)]
    Endpoint(#[from] cri::ConnectError),
    #[error("{what}: {}", status.message())]
    Refused { what: String, status: Box<tonic::Status> },
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: std::io::Error },
}

fn refused(what: impl Into<String>) -> impl FnOnce(tonic::Status) -> ImageError {
    let what = what.into();
    move |status| ImageError::Refused {
        what,
        status: Box::new(status),
    }
}

/// A file that goes with its owner.
struct Taken(PathBuf);

impl Drop for Taken {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "copy of the standard input");
        }
    }
}

/// The standard input as a file beside the node's: the runtime reads archives by their paths.
async fn standard_input(dir: &Path) -> std::io::Result<Taken> {
    let path = dir.join(format!("import-{}", std::process::id()));
    let taken = Taken(path.clone());
    let copied = tokio::task::spawn_blocking(move || {
        let mut file = std::fs::File::create(path)?;
        std::io::copy(&mut std::io::stdin().lock(), &mut file)
    });
    copied.await.map_err(std::io::Error::other)??;
    Ok(taken)
}

/// Imports archives on the node of a data directory.
pub async fn import(data_dir: &Path, archives: Vec<PathBuf>) -> Result<(), ImageError> {
    let data_dir = data_dir.to_owned();
    let command = ImageCommand::Import { archives };
    run(ImageArgs { data_dir, command }).await
}

/// Runs `skiff image`.
///
/// # Errors
/// When no node runs, and as its runtime says.
pub async fn run(args: ImageArgs) -> Result<(), ImageError> {
    let socket = NodePaths::of(&args.data_dir).socket();
    if !socket.exists() {
        return Err(ImageError::NoNode(args.data_dir));
    }
    let (_, mut images) = cri::connect(&format!("unix://{}", socket.display()))?;
    match args.command {
        ImageCommand::Import { archives } => {
            for archive in archives {
                let file = |source| ImageError::File {
                    path: archive.clone(),
                    source,
                };
                let taken = if archive == Path::new("-") {
                    Some(
                        standard_input(&NodePaths::of(&args.data_dir).agent)
                            .await
                            .map_err(file)?,
                    )
                } else {
                    None
                };
                let path = match &taken {
                    Some(taken) => taken.0.clone(),
                    None => archive.canonicalize().map_err(file)?,
                };
                let imported = runtime::import(&socket, &path).await;
                drop(taken);
                let names = imported.map_err(refused(archive.display().to_string()))?;
                for name in names {
                    println!("{name}");
                }
            }
        }
        ImageCommand::Ls => {
            let answer = images.list_images(v1::ListImagesRequest { filter: None }).await;
            let mut all = answer
                .map_err(refused("the images cannot be listed"))?
                .into_inner()
                .images;
            all.sort_by(|a, b| a.repo_tags.cmp(&b.repo_tags));
            println!("{:<72} {:<16} {:>10}", "IMAGE", "ID", "SIZE");
            for image in all {
                let id = image.id.trim_start_matches("sha256:");
                let size = format!("{:.1}MiB", image.size as f64 / f64::from(1 << 20));
                let names = if image.repo_tags.is_empty() {
                    &image.repo_digests
                } else {
                    &image.repo_tags
                };
                for name in names {
                    println!("{name:<72} {:<16} {size:>10}", id.get(..12).unwrap_or(id));
                }
            }
        }
        ImageCommand::Rm { images: names } => {
            for name in names {
                let spec = v1::ImageSpec {
                    image: name.clone(),
                    ..v1::ImageSpec::default()
                };
                let known = images
                    .image_status(v1::ImageStatusRequest {
                        image: Some(spec.clone()),
                        verbose: false,
                    })
                    .await
                    .map_err(refused(&name))?
                    .into_inner()
                    .image;
                if known.is_none() {
                    return Err(refused(&name)(tonic::Status::not_found("no such image")));
                }
                if runtime::untag(&socket, &name).await.map_err(refused(&name))? {
                    continue;
                }
                images
                    .remove_image(v1::RemoveImageRequest { image: Some(spec) })
                    .await
                    .map_err(refused(&name))?;
            }
        }
    }
    Ok(())
}
