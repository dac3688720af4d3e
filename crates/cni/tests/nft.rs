//! The encoder against the kernel; `nft` reads back what was written.
#![allow(clippy::unwrap_used)]

mod common;

use cni::nft::{Batch, Chain, Family, Field, Hook, Key, Rule, Set, Verdict, ct_state, list_rules};
use common::Namespace;
use nix::errno::Errno;

fn ip(text: &str) -> std::net::IpAddr {
    text.parse().unwrap()
}

#[test]
fn nft_reads_back_the_rules_that_were_written() {
    let namespace = Namespace::new("nft");
    for family in [Family::Ipv4, Family::Ipv6] {
        let v6 = family == Family::Ipv6;
        let (address, field) = if v6 {
            ("fd00::1", Field::Ipv6)
        } else {
            ("10.0.0.1", Field::Ipv4)
        };
        namespace.inside(|| {
            let mut batch = Batch::new(family, "t");
            batch.add_table();
            batch.add_set("ips", &Set::vmap(&[field, Field::Protocol, Field::Port]));
            batch.add_set("ports", &Set::vmap(&[Field::Protocol, Field::Port]));
            batch.add_set("nodes", &Set::new(&[field]));
            batch.add_set("pairs", &Set::new(&[field, field, Field::Protocol, Field::Port]));
            batch.add_set("recent", &Set::recent(field, 10_800_000));
            for chain in ["a", "b", "svc"] {
                batch.add_chain(chain, &Chain::regular());
            }
            batch.add_chain("pre", &Chain::nat(Hook::Prerouting, -100));
            batch.add_chain("post", &Chain::nat(Hook::Postrouting, 100));
            batch.add_chain("in", &Chain::filter(Hook::Input, 0));
            batch.add_rule("pre", &Rule::new().service_vmap(family, "ips"));
            batch.add_rule("pre", &Rule::new().daddr_in(family, "nodes").port_vmap("ports"));
            batch.add_rule("pre", &Rule::new().daddr_local().comment("a comment"));
            batch.add_rule(
                "svc",
                &Rule::new()
                    .saddr_in(family, "recent")
                    .verdict(Verdict::Goto("a".into())),
            );
            batch.add_rule("svc", &Rule::new().random_goto(&["a".into(), "b".into()]));
            batch.add_rule("a", &Rule::new().remember_saddr(family, "recent"));
            batch.add_rule("a", &Rule::new().l4proto(6).dnat(ip(address), Some(80)));
            let many = [(ip(address), 80), (ip(address), 81)];
            batch.add_rule("a", &Rule::new().l4proto(17).random_dnat(family, &many));
            batch.add_rule("a", &Rule::new().one_in(3).verdict(Verdict::Drop));
            batch.add_rule("b", &Rule::new().saddr_local().set_mark(1));
            batch.add_rule("b", &Rule::new().saddr_is(ip(address)).set_mark(0x4000));
            batch.add_rule(
                "b",
                &Rule::new()
                    .not_saddr(format!("{address}/16").parse().unwrap())
                    .verdict(Verdict::Drop),
            );
            batch.add_rule("post", &Rule::new().mark_lacks(0x4000).verdict(Verdict::Return));
            batch.add_rule("post", &Rule::new().connection_in(family, "pairs").masquerade());
            batch.add_rule("post", &Rule::new().clear_mark(0x4000).masquerade());
            batch.add_rule("in", &Rule::new().ct_state(ct_state::NEW).reject());
            batch.add_rule(
                "in",
                &Rule::new()
                    .iifname("eth0")
                    .l4proto(17)
                    .dport(53)
                    .verdict(Verdict::Accept),
            );
            let keys = [Key::service(ip(address), 6, 80), Key::service(ip(address), 17, 53)];
            let verdict = Verdict::Goto("svc".into());
            batch.add_elements("ips", keys.iter().map(|k| (k, Some(&verdict))));
            batch.add_elements("nodes", [(&Key::ip(ip(address)), None)]);
            batch.add_elements("ports", [(&Key::protocol_port(132, 30000), Some(&verdict))]);
            batch.commit().unwrap();
        });
        let text = namespace.sh(if v6 {
            "nft -n list table ip6 t"
        } else {
            "nft -n list table ip t"
        });
        let word = if v6 { "ip6" } else { "ip" };
        for line in [
            format!("{word} daddr . meta l4proto . th dport vmap @ips"),
            format!("{word} daddr @nodes meta l4proto . th dport vmap @ports"),
            "fib daddr type 2 comment \"a comment\"".into(),
            format!("{word} saddr @recent goto a"),
            "numgen random mod 2 vmap { 0 : goto a, 1 : goto b }".into(),
            format!("update @recent {{ {word} saddr }}"),
            "meta mark set meta mark | 0x00004000".into(),
            "fib saddr type 2".into(),
            "numgen random mod 3 0 drop".into(),
            format!("{word} saddr . {word} daddr . meta l4proto . th dport @pairs"),
            format!("dnat {word} to numgen random mod 2 map {{ 0 : {address} . 80, 1 : {address} . 81 }}"),
            "masquerade fully-random".into(),
            "ct state 0x8 reject".into(),
            "iifname \"eth0\" udp dport 53 accept".into(),
            "6 . 80 : goto svc".into(),
            "132 . 30000 : goto svc".into(),
        ] {
            assert!(text.contains(&line), "{line} is not in\n{text}");
        }
    }
    let rules = namespace.inside(|| list_rules(Family::Ipv4, "t")).unwrap();
    let rule = rules.iter().find(|r| r.comment == "a comment").unwrap().clone();
    assert_eq!(rule.chain, "pre");
    namespace.inside(|| {
        let mut batch = Batch::new(Family::Ipv4, "t");
        batch.del_rule(&rule.chain, rule.handle);
        batch.commit().unwrap();
        assert!(
            list_rules(Family::Ipv4, "t")
                .unwrap()
                .iter()
                .all(|r| r.comment.is_empty())
        );
        assert_eq!(list_rules(Family::Ipv4, "absent").unwrap(), []);
    });
}

#[test]
fn a_refused_command_is_named_and_nothing_of_its_batch_stays() {
    let namespace = Namespace::new("nft");
    let error = namespace.inside(|| {
        let mut batch = Batch::new(Family::Ipv4, "t");
        batch.add_table();
        batch.add_chain("a", &Chain::regular());
        batch.add_rule("a", &Rule::new().jump("nowhere"));
        batch.add_chain("b", &Chain::regular());
        batch.commit().unwrap_err()
    });
    assert_eq!(error.errno(), Some(Errno::ENOENT));
    assert!(error.to_string().contains("add rule to t a"), "{error}");
    assert_eq!(namespace.sh("nft list ruleset"), "");
}

#[test]
fn many_thousand_elements_and_chains_go_in_one_transaction() {
    let namespace = Namespace::new("nft");
    namespace.inside(|| {
        let mut batch = Batch::new(Family::Ipv4, "t");
        batch.add_table();
        batch.add_set("ips", &Set::vmap(&[Field::Ipv4, Field::Protocol, Field::Port]));
        let names: Vec<String> = (0..5000).map(|n| format!("service-{n}")).collect();
        let mut elements = Vec::new();
        for (n, name) in (0u32..).zip(&names) {
            batch.add_chain(name, &Chain::regular());
            batch.add_rule(name, &Rule::new().l4proto(6).dnat(ip("10.0.0.1"), Some(80)));
            let address = std::net::Ipv4Addr::from(0x0a00_0000 + n);
            elements.push((Key::service(address.into(), 6, 80), Verdict::Goto(name.clone())));
        }
        batch.add_elements("ips", elements.iter().map(|(k, v)| (k, Some(v))));
        batch.commit().unwrap();
        assert_eq!(list_rules(Family::Ipv4, "t").unwrap().len(), 5000);
        let mut batch = Batch::new(Family::Ipv4, "t");
        batch.del_elements("ips", elements.iter().map(|(k, _)| k));
        for name in &names {
            batch.flush_chain(name);
            batch.del_chain(name);
        }
        batch.commit().unwrap();
        assert_eq!(list_rules(Family::Ipv4, "t").unwrap(), []);
    });
}
