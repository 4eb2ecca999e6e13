"""What a CT file may claim: beyond these limits a header is damaged, and believing it would cost memory or time."""

MAX_SIDE = 4096  # rows or columns: CT matrices are 512 to 1024, rarely 2048
MAX_FRAMES = 10_000  # of an Enhanced CT: a whole body at 0.25 mm has 8,000
PIXEL_MM = (0.05, 10.0)  # photon-counting CT reaches 0.1 mm; 512 pixels of 10 mm would be a field of five metres
MAX_POSITION_MM = 100_000.0  # from the scanner's origin; tables are two metres long
MAX_SLOPE = 1000.0  # Hounsfield units for each stored step; scanners write 1, archives 0.1 to 10
LEAST_RANGE = 1000.0  # Hounsfield units from the lowest to the highest stored value: air to water; less is a window
MAX_INTERCEPT = 100_000.0  # Hounsfield units; scanners write -1024, -8192 or 0
MAX_FILE = 6 << 30  # bytes of one file: an Enhanced CT of 10,000 frames of 512 x 512 pixels has 5.2e9
MAX_INFLATED = 256 << 20  # bytes that a deflated file may inflate to: a few bytes can stand for gigabytes
MAX_DECODER = 1 << 30  # bytes of memory that decoding may take: a codestream names a size of its own
DECODE_SECONDS = 60  # for one frame; 512 x 512 pixels take 5 to 30 ms
