"""The media types of extensions, the same whatever the machine knows of them.

Registered types, and those in common use where none is registered or browsers do not know it.
https://www.iana.org/assignments/media-types/
"""

from __future__ import annotations

_TABLE = """
application/atom+xml atom
application/dicom dcm
application/epub+zip epub
application/geo+json geojson
application/gpx+xml gpx
application/gzip gz svgz taz tgz
application/java-archive jar
application/json json map
application/ld+json jsonld
application/manifest+json webmanifest
application/mbox mbox
application/msword doc dot
application/n-quads nq
application/n-triples nt
application/ogg ogx
application/pdf pdf
application/pgp-encrypted pgp
application/pgp-signature sig
application/pkcs10 p10
application/pkcs12 p12 pfx
application/pkcs7-mime p7c p7m
application/pkix-cert cer
application/pkix-crl crl
application/postscript ai eps ps
application/rdf+xml rdf
application/rss+xml rss
application/rtf rtf
application/schema+json jsonschema
application/sparql-query rq
application/sql sql
application/toml toml
application/trig trig
application/vnd.amazon.ebook azw
application/vnd.android.package-archive apk
application/vnd.apache.parquet parquet
application/vnd.apple.installer+xml mpkg
application/vnd.apple.keynote key
application/vnd.apple.mpegurl m3u8
application/vnd.apple.numbers numbers
application/vnd.apple.pages pages
application/vnd.comicbook+zip cbz
application/vnd.comicbook-rar cbr
application/vnd.debian.binary-package deb udeb
application/vnd.efi.img img
application/vnd.efi.iso iso
application/vnd.geogebra.file ggb
application/vnd.google-earth.kml+xml kml
application/vnd.google-earth.kmz kmz
application/vnd.mapbox-vector-tile mvt
application/vnd.microsoft.portable-executable dll exe
application/vnd.ms-cab-compressed cab
application/vnd.ms-excel xla xlb xls xlt
application/vnd.ms-excel.addin.macroEnabled.12 xlam
application/vnd.ms-excel.sheet.binary.macroEnabled.12 xlsb
application/vnd.ms-excel.sheet.macroEnabled.12 xlsm
application/vnd.ms-excel.template.macroEnabled.12 xltm
application/vnd.ms-fontobject eot
application/vnd.ms-outlook msg
application/vnd.ms-powerpoint pot ppa pps ppt
application/vnd.ms-powerpoint.presentation.macroEnabled.12 pptm
application/vnd.ms-powerpoint.slideshow.macroEnabled.12 ppsm
application/vnd.ms-project mpp
application/vnd.ms-word.document.macroEnabled.12 docm
application/vnd.ms-word.template.macroEnabled.12 dotm
application/vnd.oasis.opendocument.chart odc
application/vnd.oasis.opendocument.database odb
application/vnd.oasis.opendocument.formula odf
application/vnd.oasis.opendocument.graphics odg
application/vnd.oasis.opendocument.graphics-template otg
application/vnd.oasis.opendocument.image odi
application/vnd.oasis.opendocument.presentation odp
application/vnd.oasis.opendocument.presentation-template otp
application/vnd.oasis.opendocument.spreadsheet ods
application/vnd.oasis.opendocument.spreadsheet-template ots
application/vnd.oasis.opendocument.text odt
application/vnd.oasis.opendocument.text-master odm
application/vnd.oasis.opendocument.text-template ott
application/vnd.openxmlformats-officedocument.presentationml.presentation pptx
application/vnd.openxmlformats-officedocument.presentationml.slideshow ppsx
application/vnd.openxmlformats-officedocument.presentationml.template potx
application/vnd.openxmlformats-officedocument.spreadsheetml.sheet xlsx
application/vnd.openxmlformats-officedocument.spreadsheetml.template xltx
application/vnd.openxmlformats-officedocument.wordprocessingml.document docx
application/vnd.openxmlformats-officedocument.wordprocessingml.template dotx
application/vnd.rar rar
application/vnd.sqlite3 db db3 sqlite sqlite3
application/vnd.tcpdump.pcap cap pcap
application/vnd.visio vsd vss vst
application/wasm wasm
application/x-7z-compressed 7z
application/x-abiword abw
application/x-apple-diskimage dmg
application/x-bittorrent torrent
application/x-blender blend
application/x-bzip2 bz2 tbz tbz2
application/x-compress z
application/x-cpio cpio
application/x-csh csh
application/x-dvi dvi
application/x-gnumeric gnumeric
application/x-hdf hdf
application/x-hdf5 h5 hdf5
application/x-ipynb+json ipynb
application/x-latex latex
application/x-lzma lzma
application/x-mobipocket-ebook mobi
application/x-ndjson jsonl ndjson
application/x-netcdf cdf nc
application/x-pem-file pem
application/x-perl pl pm
application/x-plist plist
application/x-redhat-package-manager rpm
application/x-ruby rb
application/x-sh sh
application/x-sharedlib so
application/x-shockwave-flash swf
application/x-tar tar
application/x-tcl tcl
application/x-tex tex
application/x-texinfo texi texinfo
application/x-x509-ca-cert crt der
application/x-xpinstall xpi
application/x-xz txz xz
application/xhtml+xml xht xhtml
application/xml wsdl xml xsd
application/xml-dtd dtd
application/xslt+xml xsl xslt
application/yaml yaml yml
application/zip zip
application/zstd zst
audio/aac aac adts
audio/ac3 ac3
audio/AMR amr
audio/basic au snd
audio/eac3 eac3
audio/flac flac
audio/matroska mka
audio/midi mid midi
audio/mp4 m4a m4b
audio/mpeg mp2 mp3 mpga
audio/ogg oga ogg spx
audio/opus opus
audio/vnd.rn-realaudio ra
audio/webm weba
audio/x-aiff aif aifc aiff
audio/x-ape ape
audio/x-mpegurl m3u
audio/x-ms-wma wma
audio/x-wav wav
audio/x-wavpack wv
font/collection ttc
font/otf otf
font/ttf ttf
font/woff woff
font/woff2 woff2
image/apng apng
image/avif avif
image/bmp bmp dib
image/dicom-rle drle
image/emf emf
image/fits fit fits
image/gif gif
image/heic heic
image/heif heif
image/jp2 jp2
image/jpeg jfif jpe jpeg jpg
image/jph jph
image/jpm jpm
image/jpx jpf jpx
image/jxl jxl
image/ktx ktx
image/ktx2 ktx2
image/png png
image/svg+xml svg
image/tiff tif tiff
image/vnd.adobe.photoshop psd
image/vnd.djvu djv djvu
image/vnd.dwg dwg
image/vnd.dxf dxf
image/vnd.microsoft.icon cur ico
image/vnd.radiance hdr
image/webp webp
image/wmf wmf
image/x-adobe-dng dng
image/x-canon-cr2 cr2
image/x-canon-cr3 cr3
image/x-exr exr
image/x-nikon-nef nef
image/x-panasonic-rw2 rw2
image/x-portable-anymap pnm
image/x-portable-bitmap pbm
image/x-portable-graymap pgm
image/x-portable-pixmap ppm
image/x-rgb rgb
image/x-sony-arw arw
image/x-tga tga
image/x-xbitmap xbm
image/x-xcf xcf
image/x-xpixmap xpm
image/x-xwindowdump xwd
message/rfc822 eml mht mhtml
model/3mf 3mf
model/gltf+json gltf
model/gltf-binary glb
model/iges iges igs
model/mtl mtl
model/obj obj
model/step step stp
model/stl stl
model/vnd.collada+xml dae
model/vnd.usdz+zip usdz
model/x3d+xml x3d
text/cache-manifest appcache
text/calendar ics ifb
text/css css
text/csv csv
text/html htm html shtml
text/javascript cjs js mjs
text/markdown markdown md
text/n3 n3
text/plain asc bat c cfg conf cpp diff env h hpp ini java ksh log patch rs srt text txt
text/richtext rtx
text/rst rst
text/sgml sgm sgml
text/tab-separated-values tab tsv
text/troff man roff t tr
text/turtle ttl
text/vcard vcard vcf
text/vtt vtt
text/x-bibtex bib
text/x-gettext-translation po
text/x-php php
text/x-python py
text/x-sass sass
text/x-scss scss
video/3gpp 3gp 3gpp
video/3gpp2 3g2 3gpp2
video/iso.segment m4s
video/matroska mk3d mkv
video/mp2t m2ts mts ts
video/mp4 m4v mp4 mpg4
video/mpeg m1v m2v mpe mpeg mpg
video/ogg ogv
video/quicktime mov qt
video/vnd.avi avi
video/vnd.mpegurl m4u mxu
video/webm webm
video/x-divx divx
video/x-f4v f4v
video/x-flv flv
video/x-ms-asf asf asx
video/x-ms-wmv wmv
"""

BY_EXTENSION = {
    extension: media_type
    for media_type, *extensions in map(str.split, _TABLE.strip().splitlines())
    for extension in extensions
}
"""The media type of each extension, which is in lower case, without its dot."""
