//! Messages of CRI as a runtime gets them: the first byte picks which.

use cri::v1;
use prost::Message;

use crate::{Form, Target};

pub const TARGET: Target = Target::new("cri", Form::Bytes, check);

fn check(input: &[u8]) {
    let Some((first, rest)) = input.split_first() else {
        return;
    };
    match first % 6 {
        0 => {
            if let Some(request) = again::<v1::RunPodSandboxRequest>(rest) {
                runtime::fuzzing::sandbox(&request.config.unwrap_or_default());
            }
        }
        1 => {
            if let Some(request) = again::<v1::CreateContainerRequest>(rest) {
                let sandbox = request.sandbox_config.unwrap_or_default();
                runtime::fuzzing::container(&request.config.unwrap_or_default(), &sandbox);
            }
        }
        2 => drop(
            again::<v1::UpdateContainerResourcesRequest>(rest)
                .map(|r| runtime::fuzzing::resources(&r.linux.unwrap_or_default())),
        ),
        3 => drop(again::<v1::PullImageRequest>(rest)),
        4 => drop(again::<v1::ListPodSandboxStatsResponse>(rest)),
        _ => drop(again::<v1::ContainerStatusResponse>(rest)),
    }
}

fn again<M: Message + Default + PartialEq>(bytes: &[u8]) -> Option<M> {
    let message = M::decode(bytes).ok()?;
    let written = message.encode_to_vec();
    let again = M::decode(written.as_slice()).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(written, again.encode_to_vec(), "decoding what was encoded");
    Some(message)
}
