"""Sidecars in the structures that programs write, made up for the tests."""

from __future__ import annotations

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
DC = "http://purl.org/dc/elements/1.1/"
LR = "http://ns.adobe.com/lightroom/1.0/"


def rdf(inside: str, *, head: str = "", declared: str = "") -> bytes:
    """A small sidecar of one description."""
    return f"""{head}<x:xmpmeta xmlns:x="adobe:ns:meta/">
<rdf:RDF xmlns:rdf="{RDF}"><rdf:Description rdf:about="" xmlns:dc="{DC}" xmlns:lr="{LR}"{declared}>{inside}
</rdf:Description></rdf:RDF></x:xmpmeta>
""".encode()


DARKTABLE = f"""<?xml version="1.0" encoding="UTF-8"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="XMP Core 4.4.0-Exiv2">
 <rdf:RDF xmlns:rdf="{RDF}">
  <rdf:Description rdf:about=""
    xmlns:xmpMM="http://ns.adobe.com/xap/1.0/mm/"
    xmlns:darktable="http://darktable.sf.net/"
    xmlns:dc="{DC}"
    xmlns:lr="{LR}"
   xmpMM:DerivedFrom="IMG.jpg"
   darktable:xmp_version="5"
   darktable:history_end="2">
   <darktable:masks_history>
    <rdf:Seq/>
   </darktable:masks_history>
   <darktable:history>
    <rdf:Seq>
     <rdf:li
      darktable:num="0"
      darktable:operation="exposure"
      darktable:params="00 &lt; gz12eJxjYGBg"/>
     <rdf:li
      darktable:num="1"
      darktable:operation="a &gt; b"/>
    </rdf:Seq>
   </darktable:history>
   <dc:subject>
    <rdf:Bag>
     <rdf:li>changed</rdf:li>
     <rdf:li>jpg</rdf:li>
    </rdf:Bag>
   </dc:subject>
   <lr:hierarchicalSubject>
    <rdf:Bag>
     <rdf:li>darktable|changed</rdf:li>
     <rdf:li>darktable|format|jpg</rdf:li>
    </rdf:Bag>
   </lr:hierarchicalSubject>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
""".encode()

DIGIKAM = f"""<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="XMP Core 4.4.0-Exiv2">
 <rdf:RDF xmlns:rdf="{RDF}">
  <rdf:Description rdf:about=""
    xmlns:digiKam="http://www.digikam.org/ns/1.0/"
    xmlns:MicrosoftPhoto="http://ns.microsoft.com/photo/1.0/"
    xmlns:lr="{LR}"
    xmlns:dc="{DC}"
   digiKam:PickLabel="0">
   <digiKam:TagsList>
    <rdf:Seq>
     <rdf:li>Places/K\u00f6ln</rdf:li>
    </rdf:Seq>
   </digiKam:TagsList>
   <MicrosoftPhoto:LastKeywordXMP>
    <rdf:Bag>
     <rdf:li>Places/K\u00f6ln</rdf:li>
    </rdf:Bag>
   </MicrosoftPhoto:LastKeywordXMP>
   <lr:hierarchicalSubject>
    <rdf:Bag>
     <rdf:li>Places|K\u00f6ln</rdf:li>
    </rdf:Bag>
   </lr:hierarchicalSubject>
   <dc:subject>
    <rdf:Bag>
     <rdf:li>K\u00f6ln</rdf:li>
    </rdf:Bag>
   </dc:subject>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="w"?>""".encode()

# One line end of Windows, a description a namespace, single quotes, padding at the end.
EXIFTOOL = (
    f"""<?xpacket begin='\ufeff' id='W5M0MpCehiHzreSzNTczkc9d'?>
<x:xmpmeta xmlns:x='adobe:ns:meta/' x:xmptk='Image::ExifTool 12.57'>
<rdf:RDF xmlns:rdf='{RDF}'>

 <rdf:Description rdf:about='uuid:1'
  xmlns:xmp='http://ns.adobe.com/xap/1.0/'>
  <xmp:Rating>3</xmp:Rating>
 </rdf:Description>

 <rdf:Description rdf:about='uuid:1'
  xmlns:dc='{DC}'>
  <dc:subject>
   <rdf:Bag>
    <rdf:li>lake &amp; hill</rdf:li>
   </rdf:Bag>
  </dc:subject>
 </rdf:Description>
</rdf:RDF>
</x:xmpmeta>
""".replace("\n", "\r\n")
    + (" " * 99 + "\n") * 20
    + "<?xpacket end='w'?>"
).encode()

# All in attributes, and no element inside.
LIGHTROOM = f"""<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="Adobe XMP Core 7.0-c000">
 <rdf:RDF xmlns:rdf="{RDF}">
  <rdf:Description rdf:about=""
    xmlns:xmp="http://ns.adobe.com/xap/1.0/"
    xmlns:crs="http://ns.adobe.com/camera-raw-settings/1.0/"
   xmp:Rating="4"
   crs:Note="a > b / 'c'"
   crs:Exposure2012="+0.35"/>
 </rdf:RDF>
</x:xmpmeta>
""".encode()

_LI = "<rdf:li>a</rdf:li>"
_TEXT = "a &amp; b <![CDATA[<rdf:li>no</rdf:li>]]> &#x20AC;"

SOUND = {
    "darktable": DARKTABLE,
    "digikam": DIGIKAM,
    "exiftool": EXIFTOOL,
    "lightroom": LIGHTROOM,
    "utf-8 with a mark": b"\xef\xbb\xbf" + DARKTABLE,
    "utf-16, little": b"\xff\xfe" + DIGIKAM.decode().encode("utf-16-le"),
    "utf-16, big": b"\xfe\xff" + DARKTABLE.decode().replace('"UTF-8"', '"UTF-16"').encode("utf-16-be"),
    "latin-1": DARKTABLE.decode().replace("UTF-8", "ISO-8859-1").replace("changed", "ge\xe4ndert").encode("latin-1"),
    "ascii": DARKTABLE.replace(b"UTF-8", b"US-ASCII"),
    "declared late": b"<?xml version='1.0' encoding='utf-8' standalone='yes' ?>" + LIGHTROOM,
    "rdf alone": DARKTABLE.partition(b"<x:xmpmeta")[0]
    + b"<rdf:RDF"
    + DARKTABLE.partition(b"<rdf:RDF")[2].rpartition(b"</x:xmpmeta>")[0],
    "no rdf": b'<x:xmpmeta xmlns:x="adobe:ns:meta/"/>',
    "no rdf, open": b'<x:xapmeta xmlns:x="adobe:ns:meta/"> <!-- > --> </x:xapmeta>',
    "no description": f'<r:RDF xmlns:r="{RDF}"/>'.encode(),
    "a description with nothing": f'<r:RDF xmlns:r="{RDF}"><r:Description /></r:RDF>'.encode(),
    "an empty bag": rdf("<dc:subject><rdf:Bag /></dc:subject><lr:hierarchicalSubject/>"),
    "an empty bag, open": rdf(
        "<dc:subject><rdf:Bag> </rdf:Bag></dc:subject><lr:hierarchicalSubject> </lr:hierarchicalSubject>"
    ),
    "a sequence": rdf(f"<dc:subject><rdf:Seq>{_LI}</rdf:Seq></dc:subject>"),
    "a text": rdf("<dc:subject> a </dc:subject>"),
    "a text with marks": rdf(f"<dc:subject>{_TEXT}</dc:subject>"),
    "an attribute": rdf("", declared=" dc:subject = \"a &quot;&lt;b\" lr:hierarchicalSubject='x|y'"),
    "an attribute of an empty element": rdf("").replace(b">\n</rdf:Description>", b" dc:subject='a'/>"),
    "items of many kinds": rdf(
        f"<dc:subject><rdf:Bag><!-- <rdf:li>c</rdf:li> --><rdf:li xml:lang='x'>{_TEXT}</rdf:li><?p ?>"
        "<rdf:li/><rdf:li><deep><rdf:li>d</rdf:li></deep></rdf:li>\n\t<rdf:li rdf:resource='u:'/> x-->z"
        "</rdf:Bag></dc:subject>"
    ),
    "in the second description": rdf(
        f"</rdf:Description><rdf:Description rdf:about=''>"
        f"<dc:subject xmlns:dc='{DC}'><rdf:Bag>{_LI}</rdf:Bag></dc:subject>"
    ),
    "twice": rdf(f"<dc:subject><rdf:Bag>{_LI}</rdf:Bag></dc:subject><dc:subject><rdf:Bag>{_LI}</rdf:Bag></dc:subject>"),
    "other prefixes": f"""<q:xmpmeta xmlns:q="adobe:ns:meta/"><RDF xmlns="{RDF}" xmlns:r="{RDF}">
    <Description r:about="">
    <k:subject xmlns:k="{DC}"><Bag><li>a</li></Bag></k:subject></Description></RDF></q:xmpmeta>""".encode(),
    "prefixes that mean something else": f"""<dc:RDF xmlns:dc="{RDF}" xmlns:rdf="{DC}" xmlns:lr="urn:other">
    <dc:Description dc:about=""><lr:subject>x</lr:subject></dc:Description></dc:RDF>""".encode(),
    "a prefix bound again on the way": f"""<r:RDF xmlns:r="{RDF}" xmlns:dc="{DC}">
    <r:Description xmlns:dc="urn:other"/></r:RDF>""".encode(),
    "a prefix bound before and no more": f"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><x:a xmlns:dc="{DC}"/>
    <r:RDF xmlns:r="{RDF}"><r:Description/></r:RDF></x:xmpmeta>""".encode(),
    "dc stands for rdf": f"""<dc:RDF xmlns:dc="{RDF}"><dc:Description/></dc:RDF>""".encode(),
    "lr stands for rdf": f"""<lr:RDF xmlns:lr="{RDF}"><lr:Description/></lr:RDF>""".encode(),
    "a prefix bound again inside": rdf(
        f"<dc:thing xmlns:dc='urn:other'><dc:subject><rdf:Bag>{_LI}</rdf:Bag></dc:subject></dc:thing>"
    ),
    "a struct with a subject": rdf(
        f"<lr:made><rdf:Description><dc:subject><rdf:Bag>{_LI}</rdf:Bag></dc:subject></rdf:Description></lr:made>"
    ),
    "deep": rdf("<a>" * 20_000 + "</a>" * 20_000),
}

_BOMB = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 10))
_DOCTYPE = '<?xml version="1.0"?><!DOCTYPE x [{}]>'

UNSOUND = {
    "empty": b"",
    "not XML": b"\xff\xd8\xff\xe0 a photo",
    "text": b"hello",
    "cut short": DARKTABLE[:-30],
    "billion laughs": rdf("<dc:subject>&l9;</dc:subject>", head=_DOCTYPE.format(f'<!ENTITY l0 "lol">{_BOMB}')),
    "external entity": rdf(
        "<dc:subject>&e;</dc:subject>", head=_DOCTYPE.format('<!ENTITY e SYSTEM "file:///etc/passwd">')
    ),
    "external doctype": rdf("", head='<!DOCTYPE x SYSTEM "http://127.0.0.1:9/x.dtd">'),
    "unknown entity": rdf("<dc:subject>&nbsp;</dc:subject>"),
    "two attributes of one name": rdf("", declared=" dc:a='1' dc:a='2'"),
    "two attributes of one meaning": rdf("", declared=f" xmlns:e='{DC}' dc:a='1' e:a='2'"),
    "NUL": DARKTABLE.replace(b"exposure", b"expo\0ure"),
    "control character": DARKTABLE.replace(b"exposure", b"expo\x01ure"),
    "not UTF-8": DARKTABLE.replace(b"exposure", b"expo\xffure"),
    "half a surrogate": b"\xff\xfe" + DIGIKAM.decode().encode("utf-16-le").replace(b"p\0h\0o\0", b"\0\xd8h\0o\0"),
    "UTF-16 that says Latin-1": b"\xff\xfe" + DARKTABLE.decode().replace("UTF-8", "ISO-8859-1").encode("utf-16-le"),
    "UTF-16 without a mark": DARKTABLE.decode().encode("utf-16-le"),
    "UTF-16 without a mark or declaration": DIGIKAM.decode().encode("utf-16-le"),
    "two marks": b"\xef\xbb\xbf" * 2 + LIGHTROOM,
    "UTF-32": DARKTABLE.decode().encode("utf-32"),
    "a mark and another encoding": b"\xef\xbb\xbf" + DARKTABLE.replace(b"UTF-8", b"ISO-8859-1"),
    "an encoding unknown": DARKTABLE.replace(b"UTF-8", b"utf-7"),
    "a prefix that nobody bound": rdf("<nobody:thing/>"),
    "HTML": b"<html><body/></html>",
    "not XMP": f'<a><rdf:RDF xmlns:rdf="{RDF}"/></a>'.encode(),
    "two RDFs": f'<x:xmpmeta xmlns:x="adobe:ns:meta/" xmlns:r="{RDF}"><r:RDF/><r:RDF/></x:xmpmeta>'.encode(),
    "a resource": rdf("<dc:subject rdf:resource='urn:x'/>"),
    "a literal": rdf("<dc:subject rdf:parseType='Literal'><b>x</b></dc:subject>"),
    "a struct": rdf("<dc:subject><rdf:Description/></dc:subject>"),
    "two bags": rdf("<dc:subject><rdf:Bag/><rdf:Bag/></dc:subject>"),
    "a bag in a text": rdf("<dc:subject>a<rdf:Bag/></dc:subject>"),
}
