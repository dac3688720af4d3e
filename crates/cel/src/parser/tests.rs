use super::*;

const ALL: Syntax = Syntax {
    optional: true,
    two_variables: true,
    sort_by: true,
    bindings: true,
};

fn errors(text: &str) -> String {
    parse(text, ALL)
        .map(|_| String::new())
        .unwrap_or_else(|e| e.to_string())
}

#[test]
fn errors_are_shown_with_their_line_and_a_caret() {
    assert_eq!(
        errors("a ==\n  b c"),
        "ERROR: <input>:2:5: Syntax error: extraneous input 'c' expecting <EOF>\n |   b c\n | ....^"
    );
    assert_eq!(
        errors("self.x =="),
        "ERROR: <input>:1:10: Syntax error: mismatched input '<EOF>' expecting {'[', '{', '(', '.', '-', '!', 'true', 'false', \
         'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}\n | self.x ==\n | .........^"
    );
    assert!(errors("size(a").contains("missing ')' at '<EOF>'"));
    assert!(errors("namespace").contains("reserved identifier: namespace"));
    assert!(errors("a.true").contains("mismatched input 'true' expecting IDENTIFIER"));
    assert!(errors("[1].all(1, true)").contains("argument must be a simple name"));
}

#[test]
fn depth_and_size_are_bounded() {
    let nested = |n: usize| format!("{}1{}", "(".repeat(n), ")".repeat(n));
    assert_eq!(errors(&nested(249)), "");
    assert_eq!(
        errors(&nested(250)),
        "ERROR: <input>:-1:0: expression recursion limit exceeded: 250"
    );
    let sum = |n: usize| format!("1{}", "+1".repeat(n));
    assert_eq!(errors(&sum(250)), "");
    assert!(errors(&sum(251)).contains("max recursion depth exceeded"));
    assert!(errors(&"a".repeat(100_001)).contains("size exceeds limit: size: 100001, limit 100000"));
    // what is too deep is not built, however long it is
    assert!(errors(&format!("a{}", ".b".repeat(49_000))).contains("max recursion depth exceeded"));
}
