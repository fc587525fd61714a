mod pool;
#[test]
fn x() {}
