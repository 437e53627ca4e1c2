"""PAC files as they are found: 2,000 hosts, patterns, networks and dates. Real ones name hosts of
their owners; these have the same forms.
"""

from __future__ import annotations

HOSTS = 2000


def manyHosts(count: int = HOSTS) -> str:
    """A file that a program has made of a list: one line for each, of the common forms."""
    lines = [_rule(number) for number in range(count)]
    return f"""// Generated. Do not edit.
function FindProxyForURL(url, host) {{
    host = host.toLowerCase();
    if (isPlainHostName(host) || host == "localhost" || shExpMatch(host, "127.*")) return "DIRECT";
{"".join(lines)}    return "PROXY proxy1.corp.example:8080; PROXY proxy2.corp.example:8080; DIRECT";
}}
"""


def _rule(number: int) -> str:
    name, proxy = f"h{number}.dept{number % 40}", f'"PROXY p{number % 5}.corp.example:8080"'
    forms = (
        f'shExpMatch(host, "*.{name}.corp.example")',
        f'dnsDomainIs(host, ".{name}.example.net")',
        f'host == "{name}.partner.example"',
        f'shExpMatch(url, "https://{name}.cloud.example/*")',
        f'localHostOrDomainIs(host, "www.{name}.example.org")',
    )
    return f"    if ({forms[number % len(forms)]}) return {proxy};\n"


# A company's, written by hand over the years.
COMPANY = """\
/* Proxy.pac f\u00fcr alle Standorte -- do NOT edit on the server!
   2009-03-11 JS: new DMZ  ;  2014-01-02 MK: office365 */
var proxy_default = "PROXY proxy.corp.example:8080; PROXY proxy-b.corp.example:8080";
var direct = "DIRECT";
function FindProxyForURL(url, host)
{
  // everything lower case
  url = url.toLowerCase(); host = host.toLowerCase();
  var hostIP = dnsResolve(host);
  if (isPlainHostName(host)) return direct;
  if (shExpMatch(host, "*.corp.example") && !shExpMatch(host, "extranet.corp.example"))
    return direct;
  if (hostIP != null && (isInNet(hostIP, "10.0.0.0", "255.0.0.0") ||
      isInNet(hostIP, "172.16.0.0",  "255.240.0.0") ||
      isInNet(hostIP, "192.168.0.0", "255.255.0.0")))
    { return direct }
  else if (shExpMatch(url, "*://(www|shop).partner.example/*"))
    return "HTTPS secure.corp.example:8443";
  if (url.substring(0, 4) == "ftp:") return "PROXY ftp.corp.example:2121";
  if (isInNet(myIpAddress(), "192.0.2.0", "255.255.255.0"))
    return "SOCKS5 socks.corp.example:1080; " + proxy_default;
  alert("default for " + host);
  return proxy_default;
}
"""

# Shared work among proxies by a sum over the name, and a night in which another one serves.
BALANCED = """\
function FindProxyForURL(url, host) {
    var sum = 0;
    for (var i = 0; i < host.length; i++) { sum += host.charCodeAt(i); }
    var list = new Array("PROXY a.corp.example:3128; PROXY b.corp.example:3128",
                         "PROXY b.corp.example:3128; PROXY a.corp.example:3128");
    if (weekdayRange("SAT", "SUN", "GMT") || timeRange(20, 0, 6, 0, "GMT"))
        return "PROXY night.corp.example:3128;";
    if (dateRange(24, "DEC", 31, "DEC", "GMT")) return "PROXY holiday.corp.example:3128";
    return list[sum % list.length];
}
"""
