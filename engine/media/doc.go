// Package media keeps files that people and things share: their bytes as files
// in the data folder, a row for each, thumbnails, and who may store how much.
//
// It owns the keyspaces Media, MediaOwner and MediaUsage, and the folder it is
// given. A file is named by the hash of its origin and media id, so that names
// from outside never become names on the disk, and the folders fill evenly.
//
// Order makes it safe against a power cut: the bytes are written under new/,
// brought to the disk, moved to their place, the place is brought to the disk,
// and only then is the row committed. A row without its file can not come
// about; a file without its row can, and is swept up after the next start.
// Deleting goes the other way round. Nothing of this costs a write more than
// the three flushes that one upload needs.
//
// It refuses to hold a file in memory. Uploads and downloads are streamed.
// Pictures are decoded one at a time: plain JPEG and PNG row by row, whatever
// their size, the rest if Options.ImageBytes allows for what the header lets
// expect. It also refuses to trust what a picture says it is: the first bytes
// decide, not the content type.
//
// It does not speak to other servers: remote files come in through Upload, from
// whoever fetched them. They, and the pictures of link previews, are a cache:
// they go first when space is short.
package media
