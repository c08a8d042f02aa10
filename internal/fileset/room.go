package fileset

import (
	"fmt"
	"math"

	"ossify/internal/quote"
)

// Room fails if the file system of an existing folder has less than bytes left
// for this user. Where the system cannot say, there is room.
func Room(dir string, bytes int64) error {
	if free := free(dir); free < bytes {
		return fmt.Errorf("fileset: %s: %.4g GB to write, %.4g GB free", quote.Name(dir), float64(bytes)/1e9, float64(free)/1e9)
	}
	return nil
}

// unknown is more than any disk has.
const unknown = math.MaxInt64
