//! Configurations of networks, and what plugins answer.

use serde_json::Value;

use crate::{Form, Target};

pub const TARGET: Target = Target::new("cni", Form::Trees, check);

fn check(input: &[u8]) {
    let Ok(tree) = serde_json::from_slice::<Value>(input) else {
        return;
    };
    if let Ok(answer) = cni::AddResult::parse(&tree)
        && let Ok(written) = answer.to_value("1.1.0")
    {
        let again = cni::AddResult::parse(&written).unwrap_or_else(|error| panic!("{error}: {written}"));
        assert_eq!(
            Some(&written),
            again.to_value("1.1.0").as_ref().ok(),
            "reading what was written"
        );
        answer.ips.iter().for_each(|ip| drop(ip.to_string()));
    }
    cni::fuzzing::configuration(tree);
}
