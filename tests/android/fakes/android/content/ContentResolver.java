package android.content;

import android.net.Uri;
import android.os.ParcelFileDescriptor;
import java.io.File;
import java.io.FileInputStream;
import java.io.FileNotFoundException;
import java.io.FileOutputStream;
import java.io.InputStream;
import java.io.OutputStream;
import java.util.HashMap;
import java.util.Map;

/** Fake: an address is a file's path. */
public class ContentResolver {
    public RuntimeException refusal;
    public Error error;
    public final Map<String, Integer> opened = new HashMap<>(); // how often, by way

    private File file(Uri uri, String way) {
        if (refusal != null) throw refusal;
        if (error != null) throw error;
        opened.merge(way, 1, Integer::sum);
        return new File(uri.toString());
    }

    public ParcelFileDescriptor openFileDescriptor(Uri uri, String mode) throws FileNotFoundException {
        return ParcelFileDescriptor.open(file(uri, "descriptor"), ParcelFileDescriptor.MODE_READ_ONLY);
    }

    public InputStream openInputStream(Uri uri) throws FileNotFoundException {
        return new FileInputStream(file(uri, "stream"));
    }

    public OutputStream openOutputStream(Uri uri) throws FileNotFoundException {
        return new FileOutputStream(file(uri, "output"));
    }
}
