"""The formats of JSON Schema as regular expressions over the whole text (Python's syntax).

Sources: RFC 3339 (dates; leap seconds only at 23:59:60 UTC), 5321 (email), 1123 (hostname),
2673/4291 (addresses), 3986/3987 (URI, IRI), 6570 (templates), 6901 (JSON pointer), 4122 (uuid).
`regex` is not regular and `idn-hostname` needs Unicode's tables: those are refused.
"""

_LEAP = r"(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)"
_DATE = (
    r"(?:[0-9]{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
    rf"|02-(?:0[1-9]|1[0-9]|2[0-8]))|{_LEAP}-02-29)"
)
_HOUR, _SIXTY = "(?:[01][0-9]|2[0-3])", "[0-5][0-9]"
_OFFSET = rf"(?:[Zz]|[+-]{_HOUR}:{_SIXTY})"
_FRACTION = r"(?:\.[0-9]{1,9})?"


def _leap_seconds() -> str:
    """hh:mm:60 with an offset, where that is 23:59:60 in UTC: by half hours of offset."""
    by_hour: dict[int, dict[int, list[str]]] = {hour: {} for hour in range(24)}
    for minutes in range(-24 * 60 + 30, 24 * 60, 30):
        hour, minute = divmod((23 * 60 + 59 + minutes) % (24 * 60), 60)
        offset = rf"{'+' if minutes >= 0 else '-'}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"
        offsets = ["[Zz]", "[+-]00:00"] if minutes == 0 else [offset.replace("+", "\\+")]
        by_hour[hour].setdefault(minute, []).extend(offsets)
    return "|".join(
        rf"{hour:02}:(?:"
        + "|".join(
            rf"{minute}:60{_FRACTION}(?:{'|'.join(offsets)})" for minute, offsets in found.items()
        )
        + ")"
        for hour, found in by_hour.items()
    )


_TIME = rf"(?:{_HOUR}:{_SIXTY}:{_SIXTY}{_FRACTION}{_OFFSET}|{_leap_seconds()})"

_DURATION_TIME = r"T(?:[0-9]+H(?:[0-9]+M(?:[0-9]+S)?)?|[0-9]+M(?:[0-9]+S)?|[0-9]+S)"
_DURATION_DATE = r"(?:[0-9]+D|[0-9]+M(?:[0-9]+D)?|[0-9]+Y(?:[0-9]+M(?:[0-9]+D)?)?)"
_DURATION = rf"P(?:{_DURATION_DATE}(?:{_DURATION_TIME})?|{_DURATION_TIME}|[0-9]+W)"

_OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IPV4 = rf"{_OCTET}(?:\.{_OCTET}){{3}}"
_H16 = "[0-9A-Fa-f]{1,4}"


def _ipv6() -> str:
    last = rf"(?:{_H16}:{_H16}|{_IPV4})"
    options = [rf"(?:{_H16}:){{6}}{last}", rf"::(?:{_H16}:){{5}}{last}"]
    for after in range(4, -1, -1):
        options.append(rf"(?:(?:{_H16}:){{0,{4 - after}}}{_H16})?::(?:{_H16}:){{{after}}}{last}")
    options += [rf"(?:(?:{_H16}:){{0,5}}{_H16})?::{_H16}", rf"(?:(?:{_H16}:){{0,6}}{_H16})?::"]
    return "(?:" + "|".join(options) + ")"


_IPV6 = _ipv6()
_LABEL = "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
# labels that do not begin with `xn--`: which of those stand for a name, Unicode's tables tell
_LETTER, _LDH = "[A-Za-z0-9]", "[A-Za-z0-9-]"
_PLAIN_LABEL = (
    rf"(?:{_LETTER}(?:{_LDH}?{_LETTER}|{_LDH}{_LETTER}{_LDH}{{0,59}}{_LETTER}"
    rf"|{_LDH}-{_LETTER}(?:{_LDH}{{0,58}}{_LETTER})?)?"
    rf"|(?:[A-WYZa-wyz0-9]{_LDH}|[Xx][A-MO-Za-mo-z0-9-])--{_LDH}{{0,58}}{_LETTER})"
)
_HOSTNAME = rf"{_PLAIN_LABEL}(?:\.{_PLAIN_LABEL})*"
_ATEXT = "[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]"
_QUOTED = r'"(?:[ !#-\[\]-~]|\\[ -~])*"'
_LITERAL = rf"\[(?:{_IPV4}|IPv6:{_IPV6})\]"
_EMAIL = rf"(?:{_ATEXT}+(?:\.{_ATEXT}+)*|{_QUOTED})@(?:{_LABEL}(?:\.{_LABEL})*|{_LITERAL})"
_UNICODE = "\u0080-\ud7ff\ue000-\U0010ffff"
_IATEXT = rf"[A-Za-z0-9!#$%&'*+/=?^_`{{|}}~{_UNICODE}-]"
_ILABEL = rf"[A-Za-z0-9{_UNICODE}](?:[A-Za-z0-9{_UNICODE}-]{{0,61}}[A-Za-z0-9{_UNICODE}])?"
_IDN_EMAIL = rf"{_IATEXT}+(?:\.{_IATEXT}+)*@{_ILABEL}(?:\.{_ILABEL})*"


def _uri(extra: str, *, relative: bool) -> str:
    """RFC 3986, with `extra` characters for 3987."""
    pct = "%[0-9A-Fa-f]{2}"
    plain = rf"A-Za-z0-9._~!$&'()*+,;={extra}\-"
    pchar = rf"(?:[{plain}:@]|{pct})"
    userinfo, reg_name = rf"(?:[{plain}:]|{pct})*", rf"(?:[{plain}]|{pct})*"
    future = rf"v[0-9A-Fa-f]+\.[{plain}:]+"
    authority = rf"(?:{userinfo}@)?(?:\[(?:{_IPV6}|{future})\]|{reg_name})(?::[0-9]*)?"
    tail = rf"(?:/{pchar}*)*"
    absolute = rf"/(?:{pchar}+{tail})?"
    query = rf"(?:\?(?:{pchar}|[/?])*)?(?:#(?:{pchar}|[/?])*)?"
    scheme, rooted = "[A-Za-z][A-Za-z0-9+.-]*:", rf"//{authority}{tail}|{absolute}|"
    if not relative:
        return rf"{scheme}(?:{rooted}|{pchar}+{tail}){query}"
    no_colon = rf"(?:[{plain}@]|{pct})"
    return rf"(?:(?:{scheme})?(?:{rooted})|{scheme}{pchar}+{tail}|{no_colon}+{tail}){query}"


_VARCHAR = "(?:[A-Za-z0-9_]|%[0-9A-Fa-f]{2})"
_VARNAME = rf"{_VARCHAR}(?:\.?{_VARCHAR})*"
_VARSPEC = rf"{_VARNAME}(?::[1-9][0-9]{{0,3}}|\*)?"
_EXPRESSION = rf"\{{[+#./;?&=,!@|]?{_VARSPEC}(?:,{_VARSPEC})*\}}"
_TEMPLATE_CHAR = rf"(?:[!#$&(-;=?-\[\]_a-z~{_UNICODE}]|%[0-9A-Fa-f]{{2}})"
_POINTER = "(?:/(?:[^/~]|~[01])*)*"

REFUSED = {
    "regex": "which texts are regular expressions is not a regular language",
    "idn-hostname": "it needs Unicode's IDNA tables",
}

FORMATS = {
    "date-time": rf"{_DATE}[Tt]{_TIME}",
    "date": _DATE,
    "time": _TIME,
    "duration": _DURATION,
    "email": _EMAIL,
    "idn-email": _IDN_EMAIL,
    "hostname": _HOSTNAME,
    "ipv4": _IPV4,
    "ipv6": _IPV6,
    "uri": _uri("", relative=False),
    "uri-reference": _uri("", relative=True),
    "iri": _uri(_UNICODE, relative=False),
    "iri-reference": _uri(_UNICODE, relative=True),
    "uuid": "[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}",
    "uri-template": rf"(?:{_TEMPLATE_CHAR}|{_EXPRESSION})*",
    "json-pointer": rf"(?s:{_POINTER})",
    "relative-json-pointer": rf"(?s:(?:0|[1-9][0-9]*)(?:#|{_POINTER}))",
}

MAX_LENGTH = {"hostname": 253}  # characters, where the expression does not say
