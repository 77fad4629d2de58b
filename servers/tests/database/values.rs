//! Values of PostgreSQL as JSON and back, through a real server.

use libtest_mimic::Trial;
use serde_json::{Value, json};
use servers::sql::Kind;

use crate::ground::{Ground, ask};
use crate::trial;

pub fn tests() -> Vec<Trial> {
    vec![
        trial("values::every_type_loses_nothing", every_type_loses_nothing),
        trial("values::parameters_take_the_types_of_their_places", parameters_take_the_types_of_their_places),
        trial("values::mistakes_are_named", mistakes_are_named),
    ]
}

async fn every_type_loses_nothing(ground: Ground) {
    ground
        .do_as_boss(
            "CREATE TYPE shop.mood AS ENUM ('sad', 'happy'); CREATE DOMAIN shop.small AS int CHECK (value < 10); \
             CREATE TYPE shop.pair AS (a int, b text)",
        )
        .await;
    let postgres = ground.postgres();
    for (sql, expected, name) in [
        ("true", json!(true), "bool"),
        ("NULL::int", Value::Null, "int4"),
        ("32767::int2", json!(32767), "int2"),
        ("9007199254740991", json!(9007199254740991_i64), "int8"),
        ("9223372036854775807", json!("9223372036854775807"), "int8"),
        ("1.10", json!(1.1), "numeric"),
        ("12345678901234567890.123", json!("12345678901234567890.123"), "numeric"),
        ("'NaN'::numeric", json!("NaN"), "numeric"),
        ("'NaN'::float8", json!("NaN"), "float8"),
        ("'-Infinity'::float4", json!("-Infinity"), "float4"),
        ("0.1::float4", json!(0.1), "float4"),
        ("pi()", json!(std::f64::consts::PI), "float8"),
        ("'a\"b\nc'", json!("a\"b\nc"), "text"),
        ("'a'::\"char\"", json!("a"), "char"),
        ("'\\x00ff'::bytea", json!("AP8="), "bytea"),
        ("date '2026-01-02'", json!("2026-01-02"), "date"),
        ("timestamp '2026-01-02 03:04:05.678'", json!("2026-01-02T03:04:05.678"), "timestamp"),
        ("timestamptz 'infinity'", json!("infinity"), "timestamptz"),
        ("time '03:04'", json!("03:04:00"), "time"),
        ("interval '1 day 2 hours'", json!("1 day 02:00:00"), "interval"),
        (
            "'5b0a9f5c-9d2c-4d52-9a0a-000000000001'::uuid",
            json!("5b0a9f5c-9d2c-4d52-9a0a-000000000001"),
            "uuid",
        ),
        ("'{\"a\": [1, 12345678901234567890]}'::jsonb", json!({"a": [1, "12345678901234567890"]}), "jsonb"),
        ("'{\"b\":1,\"a\":2.50}'::json", json!({"b": 1, "a": 2.5}), "json"),
        ("ARRAY[1, NULL, 3]", json!([1, null, 3]), "_int4"),
        ("ARRAY[['a', 'b,{}'], ['NULL', '']]", json!([["a", "b,{}"], ["NULL", ""]]), "_text"),
        ("ARRAY[10.5, 12345678901234567890]::numeric[]", json!([10.5, "12345678901234567890"]), "_numeric"),
        ("'[0:1]={1,2}'::int[]", json!("[0:1]={1,2}"), "_int4"),
        ("'happy'::mood", json!("happy"), "mood"),
        ("ARRAY['sad', 'happy']::mood[]", json!(["sad", "happy"]), "_mood"),
        ("7::small", json!(7), "int4"),
        ("ROW(1, 'x')::pair", json!("(1,x)"), "pair"),
        ("int4range(1, 5)", json!("[1,5)"), "int4range"),
        ("inet '192.0.2.7/24'", json!("192.0.2.7/24"), "inet"),
        ("point(1, 2)", json!("(1,2)"), "point"),
        ("B'101'", json!("101"), "bit"),
        ("'<a/>'::xml", json!("<a/>"), "xml"),
        ("'a b'::tsvector", json!("'a' 'b'"), "tsvector"),
        ("'pg_class'::regclass", json!("pg_class"), "regclass"),
        ("void_send(NULL)", Value::Null, "bytea"),
    ] {
        let result = ask(&postgres, &format!("SELECT {sql} AS value"), &[]).await;
        let result = result.unwrap_or_else(|error| panic!("{sql}: {error}"));
        assert_eq!(result.rows, [[expected]], "{sql}");
        assert_eq!(result.columns[0].r#type.as_deref(), Some(name), "{sql}");
        // The second time the types are known to the driver.
        assert_eq!(ask(&postgres, &format!("SELECT {sql} AS value"), &[]).await.unwrap().rows, result.rows);
    }
    let twice = ask(&postgres, "SELECT 1 AS a, 2 AS a, 3", &[]).await.unwrap();
    assert_eq!(json!(twice.rows), json!([[1, 2, 3]]), "columns of one name are kept");
    let none = ask(&postgres, "SELECT id FROM orders WHERE false", &[]).await.unwrap();
    assert_eq!((none.row_count, none.columns[0].name.as_str()), (0, "id"));
}

async fn parameters_take_the_types_of_their_places(ground: Ground) {
    let postgres = ground.postgres();
    for (sql, params, expected) in [
        ("SELECT $1::int + $2::int", json!([1, "2"]), json!([[3]])),
        ("SELECT $1::bool, $2::text, $3::int", json!([true, null, null]), json!([[true, null, null]])),
        ("SELECT customer FROM orders WHERE total > $1", json!([1e3]), json!([["Mary"]])),
        ("SELECT customer FROM orders WHERE customer = $1", json!(["' OR true --"]), json!([])),
        ("SELECT id FROM orders WHERE id = ANY($1) ORDER BY id", json!([[1, 3]]), json!([[1], [3]])),
        ("SELECT $1::text[]", json!([["a", null, "b,\"\\{}"]]), json!([[["a", null, "b,\"\\{}"]]])),
        ("SELECT $1::jsonb -> 'a', $2::jsonb", json!([{"a": 1}, "[2]"]), json!([[1, [2]]])),
        ("SELECT $1::bytea, $2::bytea", json!(["AP8=", "\\x00ff"]), json!([["AP8=", "AP8="]])),
        (
            "SELECT $1::int8, $2::numeric",
            json!(["9223372036854775807", 0.5]),
            json!([["9223372036854775807", 0.5]]),
        ),
        ("SELECT $1::timestamptz = '2026-01-02Z'", json!(["2026-01-02T00:00:00Z"]), json!([[true]])),
        ("SELECT $1", json!(["text"]), json!([["text"]])),
        ("SELECT $2::int, $1::int", json!([1, 2]), json!([[2, 1]])),
        ("VALUES ($1::int), (2)", json!([1]), json!([[1], [2]])),
        ("TABLE names ORDER BY 1 LIMIT 1;  -- the end", json!([]), json!([["Ada"]])),
    ] {
        let rows = ask(&postgres, sql, params.as_array().unwrap()).await;
        assert_eq!(json!(rows.unwrap_or_else(|error| panic!("{sql}: {error}")).rows), expected, "{sql}");
    }
    ground.is_unchanged().await;
}

async fn mistakes_are_named(ground: Ground) {
    let postgres = ground.postgres();
    for (sql, params, state, position, part) in [
        ("SELEC 1", json!([]), Some("42601"), Some(1), "syntax error at or near \"SELEC\""),
        (
            "SELECT 'é', wrong FROM orders",
            json!([]),
            Some("42703"),
            Some(13),
            "column \"wrong\" does not exist",
        ),
        ("SELECT * FROM nowhere", json!([]), Some("42P01"), Some(15), "relation \"nowhere\" does not exist"),
        ("SELECT 1 / $1::int", json!([0]), Some("22012"), None, "division by zero"),
        ("SELECT $1::int", json!(["x"]), Some("22P02"), None, "invalid input syntax for type integer: \"x\""),
        ("SELECT $1::int", json!([[1]]), None, None, "params[0] is an array, and $1 is a int4"),
        (
            "SELECT $1::int, $2::int[]",
            json!([1, {}]),
            None,
            None,
            "params[1] is an object, and $2 is a _int4",
        ),
        ("SELECT $1::bytea", json!(["?"]), None, None, "params[0] is a string that is not base64"),
        ("SELECT $1::text", json!(["a\0b"]), Some("22021"), None, "invalid byte sequence"),
        ("SELECT $1", json!([]), None, None, "has 1 parameters, and `params` has 0"),
        ("SELECT 1", json!([1]), None, None, "has 0 parameters, and `params` has 1"),
    ] {
        let error = ask(&postgres, sql, params.as_array().unwrap()).await.expect_err(sql);
        assert!(
            error.kind == Kind::Invalid && error.message.contains(part),
            "{sql}: {:?} {error}",
            error.kind
        );
        assert_eq!((error.sql_state.as_deref(), error.position), (state, position), "{sql}");
    }
}
