"""Names of sweeps, axes, levels, reasons and classes that break what is careless."""

from __future__ import annotations

from hypothesis import strategies as st

NAMES = (
    "<script>alert(1)</script>",
    "</script><!-- ",
    "a|b\\|c\\",
    "`code` ``",
    "line\nbreak\r\n\u2028and\x85more",
    "*bold* _it_ __x__ **",
    "[link](http://h.example) ![i](x)",
    "![x][y] <br/> &lt; &#124; &",
    "\\input{/etc/passwd} $x^2$ 50% #1 ~ {",
    "-- --- ,, ''quoted'' \"double\" ?`",
    '=HYPERLINK("http://h.example")',
    "+1+1",
    "@SUM(A1)",
    "-2+3",
    "\tTab",
    "\x1b[31mred\x07",
    "right\u202eto left",
    "évonorm 归一化 😀 e\u0301",
    "x" * 300,
    "w " * 150,
    "",
    " ",
    "-",
    "[0]",
    "*",
)

names = st.one_of(
    st.sampled_from(NAMES),
    st.text(max_size=40),
    st.text(alphabet="\\`*_[]{}|<>~$&#%^\"'-,+=@ \n\tax0é", max_size=20),
)
